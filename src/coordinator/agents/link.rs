//! How other threads reach an agent's session: by messages to its mailbox, with a bound on the bytes of jobs in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Message, Recipient};

use super::agent_session::SharedSession;
use crate::coordinator::fleet::response_channel::ResponseSender;
use crate::messages::ids::JobId;

/// Bytes of jobs that may wait for an agent that does not read. A single job may be larger.
const MAX_UNSENT: usize = 128 << 20;

/// A job for a session.
pub(crate) struct RunJob {
    /// Its id.
    pub(crate) id: JobId,
    /// The `job` frame.
    pub(crate) frame: String,
    /// Where the session writes the response.
    pub(crate) sender: ResponseSender,
}

/// A command to a session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum SessionCommand {
    /// Send this job to the agent.
    Run(RunJob),
    /// The client no longer wants the response.
    Cancel(JobId),
    /// The client took over bytes of this job's response.
    Acknowledge(JobId),
    /// The coordinator will close the connection after this time.
    Handover(Duration),
    /// Close the connection.
    Close(CloseReason),
}

/// Why the coordinator closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The coordinator is stopping.
    Deploy,
    /// The key has a newer session.
    Replaced,
    /// The session goes on over a newer connection.
    Resumed,
}

/// A handle to a session.
#[derive(Clone)]
pub(crate) struct SessionLink {
    session: Recipient<SessionCommand>,
    /// Bytes of job frames in the session's mailbox. A session does not run while its socket accepts no bytes, so the
    /// mailbox needs a bound of its own.
    unsent: Arc<AtomicUsize>,
    /// The session, which may outlive this connection.
    jobs: SharedSession,
}

impl SessionLink {
    /// A link to a session. The session subtracts from `unsent` when it takes a job from its mailbox.
    pub(crate) fn new(session: Recipient<SessionCommand>, unsent: Arc<AtomicUsize>, jobs: SharedSession) -> Self {
        Self { session, unsent, jobs }
    }

    /// Sends a job to the session. `false`, and the sender is dropped, if too many bytes of earlier jobs wait there.
    pub(crate) fn run(&self, job: RunJob) -> bool {
        let length = job.frame.len();
        let before = self.unsent.fetch_add(length, Ordering::Relaxed);
        if before > 0 && before + length > MAX_UNSENT {
            self.unsent.fetch_sub(length, Ordering::Relaxed);
            return false;
        }
        self.session.do_send(SessionCommand::Run(job));
        true
    }

    /// Cancels a job. Does nothing if the session has ended.
    pub(crate) fn cancel(&self, job: JobId) {
        self.session.do_send(SessionCommand::Cancel(job));
    }

    /// Removes a job whose client disconnected while the agent has no connection.
    pub(crate) fn forget(&self, job: JobId) {
        self.jobs.forget(job);
    }

    /// Has the session acknowledge what the client of a job took over.
    pub(crate) fn acknowledge(&self, job: JobId) {
        self.session.do_send(SessionCommand::Acknowledge(job));
    }

    /// Announces to the agent that the connection will be closed after this time.
    pub(crate) fn hand_over(&self, deadline: Duration) {
        self.session.do_send(SessionCommand::Handover(deadline));
    }

    /// Closes the session. Does nothing if it has ended.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.session.do_send(SessionCommand::Close(reason));
    }
}

#[cfg(test)]
pub(crate) mod idle {
    //! A connection that does nothing, for tests.

    use actix::{Actor, Context, Handler, Recipient};

    use super::SessionCommand;

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    impl Handler<SessionCommand> for Idle {
        type Result = ();

        fn handle(&mut self, _: SessionCommand, _: &mut Self::Context) {}
    }

    pub(crate) fn connection() -> Recipient<SessionCommand> {
        Idle.start().recipient()
    }
}
