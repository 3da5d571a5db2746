//! Decides which job runs where and when. [`router`] is the state machine; the other modules are its parts.

pub(crate) mod affinity;
pub(crate) mod backend_states;
pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod capacity;
pub(crate) mod catalog;
pub(crate) mod debounce;
pub(crate) mod estimate;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod pacing;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod selection;
