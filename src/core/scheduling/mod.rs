//! Which job runs where and when: the accounts and rules of the router.

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
