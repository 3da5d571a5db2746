//! Open files: as many as the system allows, and no promise that they can't carry.

/// Descriptors beside those of jobs: the connection, the status page and its clients, runtimes, probes, the terminal.
const OTHERS: u64 = 64;

/// The operator asks for more jobs at once than the process may have files open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "OUTPOST_MAX_CONCURRENT: {jobs} jobs at once need {} open files and this process may have {limit}: \
     lower it, or raise the limit (ulimit -Hn; LimitNOFILE= in a systemd unit)",
    jobs + OTHERS
)]
pub struct TooFewFiles {
    jobs: u64,
    limit: u64,
}

/// Raises the soft limit of open files to the hard one, and checks that it carries so many jobs at once: each has a
/// connection to its backend.
#[cfg(unix)]
pub(super) fn raise_open_files(jobs: u32) -> Result<(), TooFewFiles> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum });
    // Some systems refuse the hard limit as a soft one; then what there was holds.
    let limit = if raised.is_ok() { found.maximum } else { found.current };
    check(jobs, limit)
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
pub(super) fn raise_open_files(_: u32) -> Result<(), TooFewFiles> {
    Ok(())
}

/// `None` is no limit.
#[cfg(unix)]
fn check(jobs: u32, limit: Option<u64>) -> Result<(), TooFewFiles> {
    let jobs = u64::from(jobs);
    match limit {
        Some(limit) if jobs + OTHERS > limit => Err(TooFewFiles { jobs, limit }),
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_that_the_limit_can_not_carry_is_refused() {
        assert!(check(4096, Some(1024)).is_err());
        assert!(check(960, Some(1024)).is_ok());
        assert!(check(961, Some(1024)).is_err());
        assert!(check(4096, None).is_ok());
    }
}
