//! The connections of the router and the sessions that outlive them.
//!
//! A job belongs to a session, and a session has one connection or none. Without `resume` a session ends with its connection.
//! With `resume` it is kept for its window, and its jobs run on. Of an ended job it keeps the work, which holds the bytes and
//! the terminal frame, until the coordinator has acknowledged that frame.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::effect::{Effect, FailCause};
use super::job::Work;
use super::sessions::{Connection, Role, Session};
use super::{Drain, Router};
use crate::core::scheduling::debounce::Debounce;
use crate::core::session::handshake::SessionGrant;
use crate::core::session::sessions::{Grant, Presence};
use crate::messages::cause::Cause;
use crate::messages::ids::{CoordinatorId, Generation, JobId, SessionId};
use crate::messages::jobs::Ticket;
use crate::messages::wire::{Extensions, KeptJob, ResumeRequest, Taken, WantedJob};

impl<W: Work> Router<W> {
    /// A connection is up and takes jobs. If it goes on with the session that was listed in its handshake, the jobs that the
    /// coordinator still wants go on there, and the earlier connection is closed. Otherwise it has a new session: the
    /// coordinator's sessions without a connection end, and an earlier connection that still lives finishes its own jobs.
    pub(crate) fn connection_up(
        &mut self,
        now: Instant,
        generation: Generation,
        agreed: Extensions,
        session: Option<SessionGrant>,
    ) {
        let resuming = self.sessions.iter().find(|(_, session)| session.presence.resuming() == Some(generation));
        let resuming = resuming.map(|(id, _)| *id);
        let (grant, wanted) = match session {
            Some(SessionGrant { name, window, resumed }) => (Some(Grant { name, window }), resumed),
            None => (None, None),
        };
        for (id, connection) in &mut self.connections {
            if id.coordinator == generation.coordinator && connection.role == Role::Current {
                (connection.role, connection.announce_at) = (Role::Retiring, None);
            }
        }
        let id = match (resuming, &wanted) {
            (Some(id), Some(_)) => id,
            _ => SessionId(generation),
        };
        let (role, debounce) = (Role::Current, Debounce::default());
        let connection = Connection { session: id, agreed, announced: None, debounce, announce_at: None, role };
        self.connections.insert(generation, connection);
        self.announce(now);
        self.announce_drain(now, &[generation]);
        match (self.sessions.get_mut(&id), wanted) {
            (Some(session), Some(wanted)) => {
                let earlier = session.presence.connection();
                session.grant = grant;
                session.presence = Presence::on(generation);
                let listed = std::mem::take(&mut session.listed);
                if let Some(earlier) = earlier {
                    self.close(earlier, true);
                }
                self.go_on(now, id, generation, &wanted, &listed);
            }
            _ => {
                self.sessions.insert(id, Session::new(generation, grant));
            }
        }
        let coordinator = generation.coordinator;
        self.end_sessions(now, |id, presence| id.coordinator() == coordinator && presence.connection().is_none());
        self.resume_failed(now, generation);
        self.close_retired();
        self.serve_queues(now);
        self.schedule(now);
    }

    /// Goes on with the jobs of a session that the coordinator wants. The others were cancelled. One that arrived after the list
    /// was made counts as never received: the coordinator may send it again.
    fn go_on(
        &mut self,
        now: Instant,
        id: SessionId,
        generation: Generation,
        wanted: &[WantedJob],
        listed: &HashSet<JobId>,
    ) {
        let wanted: HashMap<JobId, u64> = wanted.iter().map(|job| (job.job_id, job.offset)).collect();
        let running = self.ledger.iter().filter(|entry| entry.session == id).map(|entry| (entry.ticket, entry.job));
        let kept = self.sessions.get(&id).into_iter().flat_map(|session| &session.kept);
        let jobs: Vec<(Ticket, JobId)> = running.chain(kept.map(|(ticket, (job, _))| (*ticket, *job))).collect();
        for (ticket, job) in jobs {
            let Some(offset) = wanted.get(&job).copied().filter(|_| listed.contains(&job)) else {
                self.drop_job(now, id, job, listed.contains(&job));
                continue;
            };
            let Some(work) = self.work(ticket) else { continue };
            let is_kept = work.delivery().resume(offset).is_ok();
            self.effects.push_back(Effect::Attach { ticket, generation, offset });
            if !is_kept {
                self.fail_resumed(ticket);
            }
        }
    }

    /// Ends a job of which the coordinator wants bytes that the agent does not have.
    fn fail_resumed(&mut self, ticket: Ticket) {
        if self.ledger.get(ticket).is_some() {
            self.fail(ticket, FailCause::NotKept);
        } else {
            self.effects.push_back(Effect::Fail { ticket, cause: FailCause::NotKept });
        }
    }

    /// A connection has ended, or its handshake has failed. Its session ends with it, or is kept for its window.
    pub(crate) fn connection_down(&mut self, now: Instant, generation: Generation) {
        self.resume_failed(now, generation);
        if let Some(Connection { session: id, role, .. }) = self.connections.remove(&generation)
            && let Some(session) = self.sessions.get_mut(&id)
            && session.presence.connection() == Some(generation)
        {
            match &session.grant {
                Some(grant) if role == Role::Current => session.presence.lost(now, grant.window),
                _ => self.end_session(now, id),
            }
        }
        self.serve_queues(now);
        self.schedule(now);
    }

    /// The handshake of a connection does not go on with a session, or not any more.
    fn resume_failed(&mut self, now: Instant, generation: Generation) {
        let asked = |session: &&mut Session<W>| session.presence.resuming() == Some(generation);
        self.sessions.values_mut().filter(asked).for_each(|session| session.presence.resume_failed(now));
    }

    /// A connection whose handshake has begun may go on with a session. What to ask for, if any job is kept. The session's
    /// window stands still until the handshake ends.
    pub(crate) fn offer_session(&mut self, now: Instant, generation: Generation) -> Option<ResumeRequest> {
        let (id, session) = self.sessions.iter_mut().rev().find(|(id, session)| {
            let connection = session.presence.connection().and_then(|connection| self.connections.get(&connection));
            id.coordinator() == generation.coordinator
                && session.grant.is_some()
                && connection.is_none_or(|connection| connection.role == Role::Current)
        })?;
        let listing = |job: JobId, work: &W, ended| KeptJob { job_id: job, offset: work.delivery().produced(), ended };
        let running = self.ledger.iter().filter(|entry| entry.session == *id);
        let running = running.map(|entry| listing(entry.job, &entry.state.work, false));
        let kept = session.kept.values().map(|(job, work)| listing(*job, work, true));
        let jobs: Vec<KeptJob> = running.chain(kept).collect();
        let name = session.grant.as_ref().filter(|_| !jobs.is_empty()).map(|grant| grant.name.clone())?;
        session.listed = jobs.iter().map(|job| job.job_id).collect();
        session.presence.resume(now, generation);
        Some(ResumeRequest { session: name, jobs })
    }

    /// The coordinator acknowledges bytes or the terminal frame of a job. Nonsense is ignored.
    pub(crate) fn acknowledged(&mut self, generation: Generation, job: JobId, taken: Taken) {
        let Some(id) = self.session_of(generation) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let kept = session.kept_by_id.get(&job).and_then(|ticket| session.kept.get_mut(ticket));
        match (taken, kept) {
            (Taken::Bytes(offset), Some((_, work))) => work.acknowledge(offset),
            (Taken::Bytes(offset), None) => {
                if let Some(entry) = self.ledger.of_session(job, id) {
                    entry.work.acknowledge(offset);
                }
            }
            (Taken::Terminal, Some((_, work))) if work.delivery().may_be_forgotten() => {
                self.effects.extend(session.forget(job).map(|work| Effect::Cancel { work }));
                self.report_running();
            }
            (Taken::Terminal, _) => {}
        }
    }

    /// The coordinator cancels a job. An unknown job has ended before, which is normal: the cancel can cross its last
    /// frame.
    pub(crate) fn cancel(&mut self, now: Instant, generation: Generation, job: JobId) {
        if let Some(id) = self.session_of(generation) {
            self.drop_job(now, id, job, true);
            self.serve_queues(now);
            self.schedule(now);
        }
    }

    /// Drops a job of a session, running or ended. `counts`: its id counts as that of an ended job, also from now on.
    fn drop_job(&mut self, now: Instant, id: SessionId, job: JobId, counts: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(work) = session.forget(job) {
            if !counts {
                session.unnote_end(job);
            }
            self.effects.push_back(Effect::Cancel { work });
        } else if let Some(entry) = self.ledger.cancel(job, id) {
            if counts {
                session.note_end(now, job);
            }
            self.cancelled(now, entry, Cause::Cancelled);
        }
        self.close_retired();
    }

    /// Ends a session and its jobs.
    pub(super) fn end_session(&mut self, now: Instant, id: SessionId) {
        let kept = self.sessions.remove(&id).map(|session| session.kept).unwrap_or_default();
        self.effects.extend(kept.into_values().map(|(_, work)| Effect::Cancel { work }));
        for entry in self.ledger.end_session(id) {
            self.cancelled(now, entry, Cause::ConnectionLost);
        }
    }

    /// Ends the sessions whose window has passed.
    pub(super) fn end_due_sessions(&mut self, now: Instant) {
        self.end_sessions(now, |_, presence| presence.ends_at().is_some_and(|at| at <= now));
    }

    fn end_sessions(&mut self, now: Instant, is_over: impl Fn(SessionId, &Presence) -> bool) {
        let over = self.sessions.iter().filter(|(id, session)| is_over(**id, &session.presence)).map(|(id, _)| *id);
        over.collect::<Vec<SessionId>>().into_iter().for_each(|id| self.end_session(now, id));
    }

    /// When the next session's window passes.
    pub(super) fn next_session_end(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|session| session.presence.ends_at()).min()
    }

    /// Closes each retiring connection that has no running job left.
    pub(super) fn close_retired(&mut self) {
        let is_done = |connection: &Connection| {
            connection.role == Role::Retiring && !self.ledger.iter().any(|entry| entry.session == connection.session)
        };
        let done: Vec<Generation> = self.connections.iter().filter(|(_, it)| is_done(it)).map(|(id, _)| *id).collect();
        done.into_iter().for_each(|generation| self.close(generation, false));
    }

    fn close(&mut self, generation: Generation, now: bool) {
        if let Some(connection) = self.connections.get_mut(&generation) {
            connection.role = Role::Closing;
            self.effects.push_back(Effect::Close { generation, now });
        }
    }

    /// The connections that take jobs: one for each coordinator at most.
    pub(super) fn current(&self) -> impl Iterator<Item = (Generation, &Connection)> {
        let current = self.connections.iter().filter(|(_, connection)| connection.role == Role::Current);
        current.map(|(generation, connection)| (*generation, connection))
    }

    pub(super) fn current_generations(&self) -> Vec<Generation> {
        self.current().map(|(generation, _)| generation).collect()
    }

    /// The session whose frames a connection carries.
    pub(super) fn session_of(&self, generation: Generation) -> Option<SessionId> {
        let id = self.connections.get(&generation)?.session;
        let session = self.sessions.get(&id)?;
        (session.presence.connection() == Some(generation)).then_some(id)
    }

    /// The jobs of a coordinator that have not ended.
    pub(super) fn running_for(&self, coordinator: CoordinatorId) -> usize {
        self.ledger.iter().filter(|entry| entry.session.coordinator() == coordinator).count()
    }

    /// Whether so many jobs of a coordinator have not ended or are kept.
    pub(super) fn holds_for(&self, coordinator: CoordinatorId, jobs: usize) -> bool {
        // For each new job: those of one coordinator are counted only if there are enough of all.
        if self.ledger.in_flight() + self.kept() < jobs {
            return false;
        }
        let sessions = self.sessions.iter().filter(|(id, _)| id.coordinator() == coordinator);
        let kept: usize = sessions.map(|(_, session)| session.kept.len()).sum();
        self.running_for(coordinator) + kept >= jobs
    }

    /// Ended jobs that are kept until they are acknowledged.
    pub(super) fn kept(&self) -> usize {
        self.sessions.values().map(|session| session.kept.len()).sum()
    }

    /// While draining: reports how many jobs have not ended or are not acknowledged.
    pub(super) fn report_running(&mut self) {
        let running = self.ledger.in_flight() + self.kept();
        if self.drain != Drain::No && self.still_running != Some(running) {
            self.still_running = Some(running);
            self.effects.push_back(Effect::StillRunning(running));
        }
    }
}
