//! What agents did that the protocol does not allow.

use std::cell::RefCell;
use std::rc::Rc;

/// What agents did that they must not do, in words. Shared by all connections of a test.
#[derive(Clone, Default)]
pub(super) struct Faults(Rc<RefCell<Vec<String>>>);

impl Faults {
    pub(super) fn add(&self, fault: String) {
        self.0.borrow_mut().push(fault);
    }

    /// Panics where there is any.
    pub(super) fn assert_none(&self) {
        let faults = self.0.borrow();
        assert!(faults.is_empty(), "the agent broke the protocol: {}", faults.join("; "));
    }
}
