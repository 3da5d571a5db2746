//! Decides which job runs where and when. [`router`] is the state machine; the other modules are its parts.

pub mod affinity;
pub mod backend_states;
pub mod breaker;
pub mod budget;
pub mod capacity;
pub mod catalog;
pub mod debounce;
pub mod estimate;
pub mod ledger;
pub mod load;
pub mod pacing;
pub mod route;
pub mod router;
pub mod selection;
