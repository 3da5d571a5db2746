//! Violations of the protocol by agents.

use std::cell::RefCell;
use std::rc::Rc;

/// Violations of the protocol by agents, as text. Shared by all connections of a test.
#[derive(Clone, Default)]
pub(super) struct Faults(Rc<RefCell<Vec<String>>>);

impl Faults {
    pub(super) fn add(&self, fault: String) {
        self.0.borrow_mut().push(fault);
    }

    /// Panics if there is one.
    pub(super) fn assert_none(&self) {
        let faults = self.0.borrow();
        assert!(faults.is_empty(), "the agent broke the protocol: {}", faults.join("; "));
    }
}
