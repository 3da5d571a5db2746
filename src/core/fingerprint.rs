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

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use crate::messages::ids::{Generation, JobId, SessionName};

/// A hasher that costs little without optimization: the two halves of a product of 128 bits, mixed for each number.
#[derive(Clone, Copy)]
struct Mixer(u64);

impl Default for Mixer {
    fn default() -> Self {
        Self(0x2436_a885_a308_d313)
    }
}

impl Mixer {
    fn mix(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        // What was mixed before is in all bits, also after a product of 0.
        self.0 = ((product as u64) ^ ((product >> 64) as u64)).wrapping_add(self.0.rotate_left(23));
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..eight.len()].copy_from_slice(eight);
            self.mix(u64::from_le_bytes(number));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }
}

/// A fingerprint in the making.
pub(crate) struct Fingerprint<'a> {
    now: Instant,
    connections: &'a [Generation],
    session: Option<&'a SessionName>,
    expected: &'a [JobId],
    whole: Mixer,
    jobs: Vec<(JobId, Mixer)>,
}

impl<'a> Fingerprint<'a> {
    /// The fingerprint of nothing. `connections`: those that live, in order. `session`: the one that an agent can go on with.
    /// `expected`: jobs that may still arrive at the agent.
    pub(crate) fn new(
        now: Instant,
        connections: &'a [Generation],
        session: Option<&'a SessionName>,
        expected: &'a [JobId],
    ) -> Self {
        Self { now, connections, session, expected, whole: Mixer::default(), jobs: Vec::new() }
    }

    /// Adds a part that belongs to no job.
    pub(crate) fn add(&mut self, part: impl Hash) {
        part.hash(&mut self.whole);
    }

    /// Adds a part of a job.
    pub(crate) fn add_of(&mut self, job: JobId, part: impl Hash) {
        let at = self.jobs.iter().position(|(known, _)| known.as_str() == job.as_str()).unwrap_or_else(|| {
            self.jobs.push((job, Mixer::default()));
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

    /// Whether a job may still arrive at the agent. Otherwise nothing is decided from its having been there.
    pub(crate) fn is_expected(&self, job: JobId) -> bool {
        self.expected.iter().any(|expected| expected.as_str() == job.as_str())
    }

    /// The value.
    pub(crate) fn finish(mut self) -> u64 {
        let mut jobs: Vec<u64> = self.jobs.iter().map(|(_, job)| job.finish()).collect();
        jobs.sort_unstable();
        jobs.hash(&mut self.whole);
        self.whole.finish()
    }
}
