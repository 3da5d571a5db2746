//! A short value that is the same for two states if and, but for a collision, only if nothing that is decided differs in them.
//! The model check recognizes by it the states where it has been.
//!
//! Each type adds its own parts. It names each of its fields, so that a new field does not compile until it is added or a
//! comment says why nothing is decided from it. Three things are replaced by what is decided from them:
//!
//! - a time by its distance from now;
//! - the number of a connection by its place among those that live, and a session's name by whether it is that of the session;
//! - a job's id by all that is known of the job. What refers to a job is added to that job with its place, for example in a queue.
//!   So states that differ only in which job is which are one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::messages::ids::{Generation, JobId, SessionName};

/// A fingerprint in the making.
pub(crate) struct Fingerprint<'a> {
    now: Instant,
    connections: &'a [Generation],
    session: Option<&'a SessionName>,
    whole: DefaultHasher,
    jobs: Vec<(JobId, DefaultHasher)>,
}

impl<'a> Fingerprint<'a> {
    /// The fingerprint of nothing. `connections`: those that live, in order. `session`: the one that an agent can go on with.
    pub(crate) fn new(now: Instant, connections: &'a [Generation], session: Option<&'a SessionName>) -> Self {
        Self { now, connections, session, whole: DefaultHasher::new(), jobs: Vec::new() }
    }

    /// Adds a part that belongs to no job.
    pub(crate) fn add(&mut self, part: impl Hash) {
        part.hash(&mut self.whole);
    }

    /// Adds a part of a job.
    pub(crate) fn add_of(&mut self, job: JobId, part: impl Hash) {
        let at = self.jobs.iter().position(|(known, _)| *known == job).unwrap_or_else(|| {
            self.jobs.push((job, DefaultHasher::new()));
            self.jobs.len() - 1
        });
        part.hash(&mut self.jobs[at].1);
    }

    /// What a time is replaced by: how far ahead it is, or how long ago.
    pub(crate) fn time(&self, at: Instant) -> (Duration, Duration) {
        (at.saturating_duration_since(self.now), self.now.saturating_duration_since(at))
    }

    /// What the number of a connection is replaced by. `None`: it has ended.
    pub(crate) fn connection(&self, connection: Generation) -> Option<usize> {
        self.connections.iter().position(|known| *known == connection)
    }

    /// What a session's name is replaced by.
    pub(crate) fn is_session(&self, name: &SessionName) -> bool {
        self.session == Some(name)
    }

    /// The value.
    pub(crate) fn finish(mut self) -> u64 {
        let mut jobs: Vec<u64> = self.jobs.iter().map(|(_, job)| job.finish()).collect();
        jobs.sort_unstable();
        jobs.hash(&mut self.whole);
        self.whole.finish()
    }
}
