//! The coordinator's end: the session of the one agent, the roster, the clients, and the parts of the connections' actors that
//! call them.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::client::{Client, RESPONSE};
use super::link::{Command, CoordinatorEnd, Down, Link, Up};
use super::world::Bounds;
use crate::coordinator::agents::agent_session::{AfterConnection, AgentSession, ConnectionId, Holder};
use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::agents::workload::{ChunkError, MissingJob, Workload};
use crate::coordinator::fleet::demand::{Demand, FrameLength};
use crate::coordinator::fleet::retry::Tries;
use crate::coordinator::fleet::roster::{AgentInfo, Released, Roster, SessionId};
use crate::core::fingerprint::Fingerprint;
use crate::core::session::handshake::SessionGrant;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{Generation, JobId, SessionName};
use crate::messages::wire::{BinaryChunk, Extension, Extensions, ResumeRequest, Taken};

/// How long a session is kept without a connection, at both ends.
const WINDOW: Duration = Duration::from_secs(60);

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Unsent,
    Waits,
    /// It got its end.
    Ended,
    /// It went away before.
    Left,
}

#[derive(Clone)]
pub(super) struct Coordinator {
    agreed: Extensions,
    excess: u32,
    roster: Roster<Generation>,
    pub(super) session: Option<(SessionId, AgentSession<Client>)>,
    names: u128,
    pub(super) clients: Vec<(JobId, Fate)>,
}

impl Coordinator {
    pub(super) fn new(bounds: &Bounds, agreed: Extensions) -> Self {
        let clients = (0..bounds.jobs).map(|n| (JobId::from(uuid::Uuid::from_u128(n.into())), Fate::Unsent)).collect();
        Self { agreed, excess: bounds.excess, roster: Roster::new(1 << 20), session: None, names: 0, clients }
    }

    fn jobs_of(&mut self, connection: Generation) -> Option<&mut Workload<Client>> {
        self.session.as_mut().and_then(|(_, session)| session.jobs_of(ConnectionId(connection.number)))
    }

    fn fate(&mut self, job: JobId) -> &mut Fate {
        &mut self.clients.iter_mut().find(|(id, _)| *id == job).expect("a known job").1
    }

    /// A client gets the end of its job.
    fn end_client(&mut self, job: JobId) {
        let fate = self.fate(job);
        assert_ne!(*fate, Fate::Ended, "ONE-END: a client gets two ends");
        if *fate == Fate::Waits {
            *fate = Fate::Ended;
        }
    }

    fn end_clients(&mut self, jobs: &Workload<Client>) {
        jobs.clients().for_each(|(job, _)| self.end_client(job));
    }

    /// Sends the next job, if the agent has a slot. False: nothing has changed that counts.
    pub(super) fn send(&mut self, room: usize, links: &mut [Link]) -> bool {
        let Some(job) = self.clients.iter().find(|(_, fate)| *fate == Fate::Unsent).map(|(job, _)| *job) else {
            return false;
        };
        let connection = self.session.as_ref().and_then(|(id, _)| self.roster.link(*id));
        let has_room = |link: &&mut Link| Some(link.generation) == connection && link.down.len() < room;
        let Some(link) = links.iter_mut().find(has_room) else { return false };
        let demand = Demand { model: "m".into(), endpoint: Endpoint::ChatCompletions };
        let assigned = self.roster.assign(&demand, FrameLength::of(1), &Tries::default(), job);
        if assigned.is_err() {
            return false;
        }
        *self.fate(job) = Fate::Waits;
        let jobs = self.jobs_of(link.generation).expect("the connection on the roster has the session");
        jobs.begin(job, Client::default());
        link.down.push_back(Down::Job(job));
        true
    }

    /// A client goes away. Its job is cancelled by a message to the connection.
    pub(super) fn leave_client(&mut self, job: JobId, links: &mut [Link]) {
        *self.fate(job) = Fate::Left;
        let Some((id, session)) = &mut self.session else { return };
        if let Some(client) = session.jobs.client(job) {
            client.is_gone = true;
        }
        match self.roster.release(*id, job) {
            Released::Connected(connection) => {
                let link = links.iter_mut().find(|link| link.generation == connection);
                link.expect("a connection on the roster").commands.push_back(Command::Cancel(job));
            }
            Released::Away => drop(session.jobs.forget(job)),
            Released::NotHeld => {}
        }
    }

    /// A connection takes a message from its mailbox.
    pub(super) fn command(&mut self, now: Instant, at: usize, links: &mut [Link]) {
        let connection = links[at].generation;
        match links[at].commands.pop_front().expect("a message") {
            Command::Cancel(job) => {
                if self.jobs_of(connection).is_some_and(|jobs| jobs.forget(job)) {
                    links[at].down.push_back(Down::Cancel(job));
                }
            }
            Command::Close => {
                links[at].down.push_back(Down::Close);
                self.leave(now, at, links);
            }
        }
    }

    /// Acknowledges what clients took over.
    pub(super) fn acknowledge(&mut self, at: usize, links: &mut [Link]) {
        let mut acks = self.jobs_of(links[at].generation).map(Workload::acknowledge_all).unwrap_or_default();
        acks.sort_unstable();
        links[at].down.extend(acks.into_iter().map(|(job, offset)| Down::Ack(job, Taken::Bytes(offset))));
    }

    pub(super) fn may_acknowledge(&self, connection: Generation) -> bool {
        let session = self.session.as_ref().map(|(_, session)| session);
        let held = session.filter(|session| session.holder == Holder::Connection(ConnectionId(connection.number)));
        let mut clients = held.into_iter().flat_map(|session| session.jobs.clients());
        self.agreed.contains(Extension::Resume) && clients.any(|(_, client)| client.has_taken())
    }

    /// Takes the next frame of a connection.
    pub(super) fn read(&mut self, now: Instant, at: usize, links: &mut [Link]) {
        let connection = links[at].generation;
        let frame = links[at].up.pop_front().expect("a frame");
        if let (Up::Hello(request), CoordinatorEnd::Handshake) = (&frame, links[at].coordinator) {
            return self.open(at, request.clone(), links);
        }
        let CoordinatorEnd::Admitted(id) = links[at].coordinator else { panic!("a frame in the handshake") };
        match frame {
            Up::Hello(_) => panic!("a second handshake"),
            Up::Offer(mut offer) => {
                offer.models.iter_mut().for_each(|model| model.max_concurrent += self.excess);
                if self.jobs_of(connection).is_some() {
                    self.roster.offer(id, offer);
                    self.finish_missing(at, links);
                }
            }
            Up::Drain => drop(self.jobs_of(connection).is_some() && self.roster.drain(id)),
            Up::Chunk(job, offset, bytes) => {
                let agreed = self.agreed;
                let part = bytes::Bytes::from_static(&RESPONSE[offset as usize..(offset + bytes) as usize]);
                let chunk = BinaryChunk { job: job.uuid(), offset, bytes: part };
                let taken: Option<Result<(), ChunkError>> =
                    self.jobs_of(connection).map(|jobs| jobs.take_binary(&chunk, agreed));
                assert!(taken.is_none_or(|taken| taken.is_ok()), "BYTES: a chunk leaves a gap");
            }
            Up::Terminal(job, bytes) => {
                if let Some(client) = self.end(id, connection, job) {
                    let is_whole = client.is_gone || client.got == bytes;
                    assert!(is_whole, "BYTES: a client gets its end without bytes before it");
                }
                self.acknowledge_end(at, job, links);
            }
            Up::Refused(job) => {
                self.end(id, connection, job);
                self.acknowledge_end(at, job, links);
            }
            Up::Close => {
                links[at].down.push_back(Down::Close);
                self.leave(now, at, links);
            }
        }
    }

    /// Ends a job of the agent, as a connection does.
    fn end(&mut self, id: SessionId, connection: Generation, job: JobId) -> Option<Client> {
        let client = self.jobs_of(connection)?.end(job)?;
        self.roster.release(id, job);
        self.end_client(job);
        Some(client)
    }

    fn acknowledge_end(&mut self, at: usize, job: JobId, links: &mut [Link]) {
        if self.agreed.contains(Extension::Resume) && self.jobs_of(links[at].generation).is_some() {
            links[at].down.push_back(Down::Ack(job, Taken::Terminal));
        }
    }

    fn finish_missing(&mut self, at: usize, links: &mut [Link]) {
        for missing in std::mem::take(&mut links[at].missing) {
            self.end_client(missing.job);
            missing.finish();
        }
    }

    /// Opens the session of a connection, as `open_session`.
    fn open(&mut self, at: usize, request: Option<ResumeRequest>, links: &mut [Link]) {
        let connection = links[at].generation;
        let key = AgentKey([1; 32]);
        let provider = "p".parse().expect("a name");
        let info = || {
            let (version, extensions) = (String::new(), self.agreed);
            AgentInfo { key, provider, version, extensions, since: UNIX_EPOCH, link: connection }
        };
        let info = info();
        let outlives = self.agreed.contains(Extension::Resume);
        let (older, missing, resumed);
        match (&mut self.session, &request) {
            (Some((id, session)), Some(request)) if outlives && session.is_meant_by(request) => {
                older = self.roster.rejoin(*id, info);
                let (mut wanted, gone) = session.resume(ConnectionId(connection.number), &request.jobs);
                let has_client = session.jobs.clients().all(|(_, client)| !client.is_gone);
                assert!(has_client, "CANCEL: a job is wanted whose client has left");
                wanted.sort_unstable_by_key(|job| job.job_id);
                for missing in &gone {
                    self.roster.release(*id, missing.job);
                }
                links[at].coordinator = CoordinatorEnd::Admitted(*id);
                (missing, resumed) = (gone, Some(wanted));
            }
            _ => {
                self.names += 1;
                let name = outlives.then(|| SessionName::from_bits(self.names));
                let (id, link) = self.roster.join(info);
                let before = self.session.replace((id, AgentSession::new(name, ConnectionId(connection.number))));
                links[at].coordinator = CoordinatorEnd::Admitted(id);
                (older, resumed) = (link, None);
                missing = before.map(|(_, session)| self.replaced(session)).unwrap_or_default();
            }
        }
        links[at].missing = missing;
        if let Some(older) = links.iter_mut().find(|link| Some(link.generation) == older) {
            older.commands.push_back(Command::Close);
        }
        let is_resumed = resumed.is_some();
        let name = self.session.as_ref().and_then(|(_, session)| session.name.clone());
        let grant = name.map(|name| SessionGrant { name, window: WINDOW, resumed });
        links[at].down.push_back(Down::Welcome(grant));
        if is_resumed {
            let mut acks = self.jobs_of(connection).map(Workload::acknowledge_again).unwrap_or_default();
            acks.sort_unstable();
            links[at].down.extend(acks.into_iter().map(|(job, offset)| Down::Ack(job, Taken::Bytes(offset))));
        }
    }

    /// Ends a session that the agent has left for a new one. Returns the jobs that end later.
    fn replaced(&mut self, mut session: AgentSession<Client>) -> Vec<MissingJob<Client>> {
        let (mut jobs, _) = session.end();
        let missing = jobs.take_unbegun();
        self.end_clients(&jobs);
        missing
    }

    /// The coordinator's end of a connection is gone.
    pub(super) fn leave(&mut self, now: Instant, at: usize, links: &mut [Link]) {
        let link = &mut links[at];
        let was = std::mem::replace(&mut link.coordinator, CoordinatorEnd::Gone);
        link.up.clear();
        link.commands.clear();
        if let (CoordinatorEnd::Admitted(_), Some((id, session))) = (was, &mut self.session) {
            match session.after(ConnectionId(link.generation.number), true) {
                AfterConnection::NotHeld => {}
                AfterConnection::Waits => {
                    let has_client = session.jobs.clients().all(|(_, client)| !client.is_gone);
                    assert!(has_client, "CANCEL: a job waits for the agent whose client has left");
                    self.roster.part(*id);
                    session.wait((now + WINDOW).into());
                }
                AfterConnection::Ends => self.end_session(),
            }
        }
        self.finish_missing(at, links);
    }

    /// The coordinator starts anew: its session and its connections are gone.
    pub(super) fn restart(&mut self, links: &mut [Link]) {
        self.end_session();
        for at in 0..links.len() {
            links[at].coordinator = CoordinatorEnd::Gone;
            links[at].up.clear();
            links[at].commands.clear();
            self.finish_missing(at, links);
        }
    }

    fn end_session(&mut self) {
        if let Some((id, mut session)) = self.session.take() {
            let (jobs, _) = session.end();
            self.roster.leave(id);
            self.end_clients(&jobs);
        }
    }

    /// When the session ends if its agent does not return.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.session.as_ref().and_then(|(_, session)| session.waits_until()).map(tokio::time::Instant::into_std)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.ends_at().is_some_and(|at| at <= now) {
            self.end_session();
        }
    }

    /// The slots that are booked are those of the session's jobs that have clients, and one connection at most reaches them.
    pub(super) fn check(&mut self, links: &[Link]) {
        let mut reaching = 0;
        for link in links.iter().filter(|link| link.coordinator != CoordinatorEnd::Gone) {
            reaching += usize::from(self.jobs_of(link.generation).is_some());
        }
        assert!(reaching <= 1, "ONE-CONNECTION: two connections reach the jobs of a session");
        let session = self.session.iter().flat_map(|(_, session)| session.jobs.clients());
        let mut jobs: Vec<JobId> = session.filter(|(_, client)| !client.is_gone).map(|(job, _)| job).collect();
        jobs.sort_unstable();
        assert_eq!(self.roster.booked(), jobs, "SLOT: the roster's slots are not those of the jobs");
        let missing = |job: JobId| links.iter().flat_map(|link| &link.missing).any(|missing| missing.job == job);
        for (job, _) in self.clients.iter().filter(|(_, fate)| *fate == Fate::Waits) {
            assert!(jobs.contains(job) || missing(*job), "ONE-END: a client waits and nothing will end its job");
        }
    }

    pub(super) fn is_quiet(&self, links: &[Link]) -> bool {
        let has_jobs = self.session.as_ref().is_none_or(|(_, session)| session.jobs.len() > 0);
        let is_idle = |link: &Link| matches!(link.coordinator, CoordinatorEnd::Admitted(_)) && link.is_empty();
        let waits = self.clients.iter().any(|(_, fate)| *fate == Fate::Waits);
        !has_jobs && !waits && self.roster.booked().is_empty() && links.len() == 1 && links.iter().all(is_idle)
    }

    pub(super) fn add_to(&self, to: &mut Fingerprint<'_>) {
        let Self { agreed: _, excess: _, roster, session, names: _, clients } = self;
        roster.add_to(to);
        to.add(session.is_some());
        if let Some((_, session)) = session {
            session.add_to(to);
            session.jobs.clients().for_each(|(job, client)| client.add_to(job, to));
        }
        // Whether a client got its end or has left counts only while its job is known, of which the client's side is a part.
        clients.iter().for_each(|(job, fate)| to.add_of(*job, (*fate == Fate::Unsent, *fate == Fate::Waits)));
    }
}
