//! Keeps the process's memory, which holds keys and prompts, out of core dumps and from debuggers.

/// Sets whether core dumps are written, and whether other processes of the same user may read the memory. Linux only: does
/// nothing elsewhere.
pub(crate) fn allow_dumps(allowed: bool) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let behavior = if allowed { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
        // The kernel refuses no value but those that are not defined.
        let _ = set_dumpable_behavior(behavior);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = allowed;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn dumps_are_refused_until_they_are_allowed() {
        for (allowed, expected) in [(false, DumpableBehavior::NotDumpable), (true, DumpableBehavior::Dumpable)] {
            allow_dumps(allowed);
            assert_eq!(dumpable_behavior().unwrap(), expected);
        }
    }
}
