//! The coordinator's side of sessions that outlive a connection.

use std::time::Duration;

use super::coordinator::ScriptedCoordinator;
use super::link::CoordinatorLink;
use crate::messages::ids::JobId;
use crate::messages::wire::{AuthOk, AuthResponse, FromCoordinator, Taken, WantedJob};

/// How long a session of the harness is kept without a connection.
pub const RESUME_WINDOW: Duration = Duration::from_mins(1);

/// The extensions `resume` and `handover`.
impl CoordinatorLink {
    /// Lets the agent in with a new session.
    pub fn open_session(&self, session: &str) {
        self.grant(session, None);
    }

    /// Lets the agent in and goes on with its session: with these jobs, each from its offset.
    pub fn resume_session(&self, session: &str, jobs: &[(JobId, u64)]) {
        jobs.iter().for_each(|(job, offset)| self.grammar.resumed(*job, *offset));
        self.grant(
            session,
            Some(jobs.iter().map(|(job_id, offset)| WantedJob { job_id: *job_id, offset: *offset }).collect()),
        );
    }

    fn grant(&self, session: &str, jobs: Option<Vec<WantedJob>>) {
        let Ok(name) = session.parse() else { panic!("not a name of a session: {session}") };
        let resumed = jobs.is_some();
        let (session, resume_window) = (Some(name), Some(RESUME_WINDOW));
        self.send(&FromCoordinator::AuthOk(AuthOk { provider_id: None, session, resume_window, resumed, jobs }));
    }

    /// Acknowledges the bytes of a job before this offset.
    pub fn ack(&self, job: JobId, offset: u64) {
        self.send(&FromCoordinator::Ack { job_id: job, taken: Taken::Bytes(offset) });
    }

    /// Acknowledges the terminal frame of a job.
    pub fn ack_final(&self, job: JobId) {
        self.send(&FromCoordinator::Ack { job_id: job, taken: Taken::Terminal });
    }

    /// Announces that this connection will be closed.
    pub fn handover(&self, deadline: Duration) {
        self.send(&FromCoordinator::Handover { deadline: Some(deadline) });
    }
}

/// Connections with a session.
impl ScriptedCoordinator {
    /// The next connection, with a new session that offers this model.
    pub async fn new_session(&mut self, session: &str, model: &str) -> CoordinatorLink {
        let (mut link, _) = self.challenged().await;
        link.open_session(session);
        link.until_offered(model).await;
        link
    }

    /// The next connection up to the agent's answer to the challenge.
    pub async fn challenged(&mut self) -> (CoordinatorLink, AuthResponse) {
        let mut link = self.next_connection().await;
        link.challenge();
        let response = link.expect_auth().await;
        (link, response)
    }
}
