//! What the router knows of a connection and of a session.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use crate::core::scheduling::debounce::Debounce;
use crate::core::session::sessions::{EndedJobs, Grant, Presence};
use crate::messages::ids::{Generation, JobId, SessionId};
use crate::messages::jobs::Ticket;
use crate::messages::wire::{Capabilities, Extensions};

/// A live connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) session: SessionId,
    pub(super) agreed: Extensions,
    /// The capabilities that were sent last.
    pub(super) announced: Option<Capabilities>,
    /// Spaces further capabilities.
    pub(super) debounce: Debounce,
    /// When delayed capabilities are due.
    pub(super) announce_at: Option<Instant>,
    pub(super) role: Role,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// It takes jobs. A coordinator has one such connection at most.
    Current,
    /// A newer one takes the jobs: it ends with the last of its own.
    Retiring,
    /// Its close was requested.
    Closing,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session<W> {
    /// Given where `resume` was agreed on.
    pub(super) grant: Option<Grant>,
    pub(super) presence: Presence,
    /// Jobs that were listed in the handshake that may go on with the session.
    pub(super) listed: HashSet<JobId>,
    /// Ended jobs whose terminal frame is not acknowledged.
    pub(super) kept: BTreeMap<Ticket, (JobId, W)>,
    pub(super) kept_by_id: HashMap<JobId, Ticket>,
    pub(super) ended: EndedJobs,
}

impl<W> Session<W> {
    pub(super) fn new(connection: Generation, grant: Option<Grant>) -> Self {
        Self {
            grant,
            presence: Presence::on(connection),
            listed: HashSet::new(),
            kept: BTreeMap::new(),
            kept_by_id: HashMap::new(),
            ended: EndedJobs::default(),
        }
    }

    /// Whether a job with this id has ended here.
    pub(super) fn has_ended(&self, job: JobId) -> bool {
        self.ended.contains(job)
    }

    /// Remembers that a job has ended.
    pub(super) fn note_end(&mut self, now: Instant, job: JobId) {
        if let Some(grant) = &self.grant {
            self.ended.add(now, job, grant.window);
        }
    }

    /// A job that has ended counts as never received: its id may be sent again.
    pub(super) fn unnote_end(&mut self, job: JobId) {
        self.ended.remove(job);
    }

    /// Keeps the work of a job that has ended, until that is acknowledged. The work is returned where nothing is kept.
    pub(super) fn keep(&mut self, ticket: Ticket, job: JobId, work: W) -> Option<W> {
        if self.grant.is_none() {
            return Some(work);
        }
        self.kept_by_id.insert(job, ticket);
        self.kept.insert(ticket, (job, work));
        None
    }

    /// Forgets an ended job.
    pub(super) fn forget(&mut self, job: JobId) -> Option<W> {
        let ticket = self.kept_by_id.remove(&job)?;
        self.kept.remove(&ticket).map(|(_, work)| work)
    }
}
