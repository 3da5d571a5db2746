//! Open files: as many as the system allows, and no promise of more jobs or connections than they allow.

/// Descriptors in addition to those of jobs: the connection, the status page and its clients, runtimes, probes, the terminal.
const OTHERS: u64 = 64;

/// The configured number of jobs at once needs more open files than the process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "OUTPOST_MAX_CONCURRENT: {jobs} jobs at once need {} open files and this process may have {limit}: \
     lower it, or raise the limit (ulimit -Hn; LimitNOFILE= in a systemd unit)",
    jobs + OTHERS
)]
pub(crate) struct TooFewFiles {
    jobs: u64,
    limit: u64,
}

/// Raises the soft limit of open files to the hard one, and checks that it carries so many jobs at once: each has a
/// connection to its backend.
pub(super) fn raise_open_files(jobs: u32) -> Result<(), TooFewFiles> {
    check(jobs, raised())
}

/// Raises the soft limit of open files to the hard one. Returns how many connections at once the process may then have, at
/// most `wanted`.
pub(crate) fn open_connections(wanted: usize) -> usize {
    fitting(wanted, raised())
}

/// The limit of open files once it is raised. `None` means unlimited.
#[cfg(unix)]
fn raised() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum });
    // Some systems refuse the hard limit as a soft one; then what there was holds.
    if raised.is_ok() { found.maximum } else { found.current }
}

/// Other systems do not have this limit.
#[cfg(not(unix))]
fn raised() -> Option<u64> {
    None
}

fn fitting(wanted: usize, limit: Option<u64>) -> usize {
    let most = limit.map_or(u64::MAX, |limit| limit.saturating_sub(OTHERS).max(1));
    wanted.min(usize::try_from(most).unwrap_or(usize::MAX))
}

fn check(jobs: u32, limit: Option<u64>) -> Result<(), TooFewFiles> {
    let jobs = u64::from(jobs);
    match limit {
        Some(limit) if jobs + OTHERS > limit => Err(TooFewFiles { jobs, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_that_the_limit_can_not_carry_is_refused() {
        assert!(check(4096, Some(1024)).is_err());
        assert!(check(960, Some(1024)).is_ok());
        assert!(check(961, Some(1024)).is_err());
        assert!(check(4096, None).is_ok());
    }

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(fitting(16_384, Some(1024)), 960);
        assert_eq!(fitting(100, Some(1024)), 100);
        assert_eq!(fitting(100, Some(10)), 1);
        assert_eq!(fitting(100, None), 100);
    }
}
