//! One connection to the coordinator, from the dial to its end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::envelopes::{CancelJob, ConnectionUp, Stop, SubmitJob};
use super::guard::Guard;
use crate::identity::Identity;
use crate::messages::ids::{Generation, ProviderId};
use crate::messages::jobs::Job;
use crate::messages::secret::Secret;
use crate::messages::wire::{Extensions, FrameError, FromAgent, FromCoordinator, JobFrame, MalformedJob};
use crate::protocol::backoff::EndClass;
use crate::protocol::close::LinkEnd;
use crate::protocol::handshake::{Credentials, Handshake, HandshakeFailure, Received, Step};
use crate::protocol::nonces::SignedNonces;
use crate::telemetry::{Event, Events, Label};
use crate::transport::frame::{Frame, Role};
use crate::transport::link::{Connector, DialError, Link};
use crate::transport::pump::{self, Inbox, PumpEnd};
use crate::transport::uplink::{self, Uplink};

/// How long each step of the handshake may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long saying goodbye to a coordinator that failed the handshake may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Frames above this are parsed off the arbiter.
const LARGE: usize = 1024 * 1024;

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) enum ConnectionExit {
    /// Before `auth_ok`.
    Failed(ConnectFailure),
    /// After it, by the peer or the network.
    Lost(LinkEnd),
    /// We closed it.
    Closed,
}

/// Why no connection came about.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectFailure {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("during the handshake: {0}")]
    Link(#[from] LinkEnd),
    #[error(transparent)]
    Handshake(#[from] HandshakeFailure),
    #[error("no {0} in time")]
    TimedOut(&'static str),
}

impl ConnectFailure {
    /// How it counts for the next connection.
    pub(super) fn class(&self) -> EndClass {
        match self {
            Self::Dial(DialError::Busy { retry_after: Some(asked), .. }) => EndClass::FailureWithWait(*asked),
            Self::Dial(_) | Self::Link(_) | Self::Handshake(_) | Self::TimedOut(_) => EndClass::Failure,
        }
    }
}

/// The connection is over.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ConnectionEnded {
    pub(super) generation: Generation,
    pub(super) exit: ConnectionExit,
}

/// What every connection needs.
#[derive(Clone)]
pub(super) struct ConnectionSetup {
    pub(super) connector: Rc<dyn Connector>,
    pub(super) identity: Identity,
    pub(super) signed: Rc<RefCell<SignedNonces>>,
    pub(super) enrollment_code: Option<Secret>,
    pub(super) max_message: usize,
    pub(super) events: Events,
}

/// Who hears of what comes.
#[derive(Clone)]
pub(super) struct Listeners {
    pub(super) up: [Recipient<ConnectionUp>; 2],
    pub(super) jobs: Recipient<SubmitJob>,
    pub(super) cancels: Recipient<CancelJob>,
    pub(super) ended: Recipient<ConnectionEnded>,
}

/// Dials, authenticates and pumps. It ends with its connection.
pub(super) struct ConnectionActor {
    pub(super) generation: Generation,
    pub(super) setup: ConnectionSetup,
    pub(super) listeners: Listeners,
    pub(super) _guard: Guard,
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let whole = connect(self.generation, self.setup.clone(), self.listeners.clone());
        ctx.spawn(whole.into_actor(self).map(|exit, actor, ctx| {
            actor.listeners.ended.do_send(ConnectionEnded { generation: actor.generation, exit });
            ctx.stop();
        }));
    }
}

impl Handler<Stop> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

async fn connect(generation: Generation, setup: ConnectionSetup, listeners: Listeners) -> ConnectionExit {
    let Established { link, provider_id, agreed } = match establish(generation, &setup).await {
        Ok(established) => established,
        Err(failure) => return ConnectionExit::Failed(failure),
    };
    let (uplink, downstream) = Uplink::new(generation, agreed);
    setup.events.emit(Event::Connected { generation, provider_id, extensions: agreed });
    for listener in &listeners.up {
        listener.do_send(ConnectionUp { uplink: uplink.clone() });
    }
    let (jobs, cancels) = (listeners.jobs, listeners.cancels);
    let mut inbox = JobInbox { generation, agreed, events: setup.events, jobs, cancels };
    match pump::run(link, downstream, &mut inbox).await {
        PumpEnd::ClosedByUs => ConnectionExit::Closed,
        PumpEnd::Link(end) => ConnectionExit::Lost(end),
    }
}

/// A connection whose handshake is done.
struct Established {
    link: Link,
    provider_id: Option<ProviderId>,
    agreed: Extensions,
}

async fn establish(generation: Generation, setup: &ConnectionSetup) -> Result<Established, ConnectFailure> {
    setup.events.emit(Event::Dialling { generation, target: setup.connector.target().to_owned() });
    let upgraded = setup.connector.dial().await?;
    let mut link = Link::new(upgraded, Role::Client, setup.max_message);
    match authenticate(&mut link, setup).await {
        Ok((given, agreed)) => {
            let provider_id = store(given, setup).await;
            Ok(Established { link, provider_id, agreed })
        }
        Err(failure) => {
            let goodbye = Frame::Close { code: Some(1002), reason: String::new() };
            // The connection is given up either way.
            let _ = timeout(GOODBYE, link.send(&goodbye)).await;
            Err(failure)
        }
    }
}

/// The name that the coordinator gave, and what was agreed on.
async fn authenticate(
    link: &mut Link,
    setup: &ConnectionSetup,
) -> Result<(Option<ProviderId>, Extensions), ConnectFailure> {
    let mut state = Handshake::AwaitingChallenge;
    let mut limit = Instant::now() + STEP_LIMIT;
    loop {
        let awaited = if state == Handshake::AwaitingChallenge { "auth_challenge" } else { "auth_ok" };
        let frame = timeout_at(limit, link.next()).await.map_err(|_| ConnectFailure::TimedOut(awaited))??;
        let received = match &frame {
            Frame::Text(text) => Received::Text(text),
            Frame::Binary(_) => Received::Binary,
            Frame::Ping(_) => Received::Ping,
            Frame::Pong(_) => Received::Pong,
            Frame::Close { .. } => Received::Close,
        };
        let (next, step) = advance(state, received, setup);
        state = next;
        let answer = match step {
            Step::Accepted { provider_id, agreed } => return Ok((provider_id, agreed)),
            Step::Failed(failure) => return Err(failure.into()),
            Step::Send(response) => {
                limit = Instant::now() + STEP_LIMIT;
                uplink::text(&FromAgent::AuthResponse(response))
            }
            Step::Wait => match frame {
                Frame::Ping(payload) => Frame::Pong(payload),
                _ => continue,
            },
        };
        timeout_at(limit, link.send(&answer)).await.map_err(|_| ConnectFailure::TimedOut("room for an answer"))??;
    }
}

fn advance(state: Handshake, received: Received<'_>, setup: &ConnectionSetup) -> (Handshake, Step) {
    let identity = &setup.identity;
    let unknown = identity.provider_id().is_none();
    state.next(
        received,
        &Credentials {
            pubkey: &identity.pubkey(),
            sign: &|bytes| identity.sign(bytes),
            signed: &setup.signed,
            enrollment_code: setup.enrollment_code.as_ref().filter(|_| unknown),
            agent_version: env!("CARGO_PKG_VERSION"),
        },
    )
}

/// Stores a provider id that is new, before the agent goes on, off the arbiter. Where the disk refuses it the agent goes
/// on all the same: the id holds for this process, and the next connection tries again.
async fn store(given: Option<ProviderId>, setup: &ConnectionSetup) -> Option<ProviderId> {
    let identity = setup.identity.clone();
    if let Some(new) = given {
        let id = new.clone();
        match tokio::task::spawn_blocking(move || identity.store_provider_id(&id)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(old))) => setup.events.emit(Event::ProviderIdReplaced { old, new }),
            Ok(Err(error)) => setup.events.emit(Event::ProviderIdNotStored { cause: error.to_string() }),
            Err(_) => {
                setup.events.emit(Event::ProviderIdNotStored { cause: "the thread that stores it failed".into() })
            }
        }
    }
    setup.identity.provider_id()
}

/// Takes the frames of the steady state apart and hands them to the router.
struct JobInbox {
    generation: Generation,
    agreed: Extensions,
    events: Events,
    jobs: Recipient<SubmitJob>,
    cancels: Recipient<CancelJob>,
}

impl JobInbox {
    /// The refusal to send, if the job is refused. Without a router there is none, and no connection for long.
    async fn submit(&self, job: Result<Job, MalformedJob>) -> Option<FromAgent> {
        let refused = self.jobs.send(SubmitJob { generation: self.generation, job }).await;
        refused.ok().flatten().map(FromAgent::JobError)
    }

    fn skip(&self, cause: impl Into<String>) {
        self.events.emit(Event::FrameSkipped { cause: cause.into() });
    }
}

impl Inbox for JobInbox {
    async fn text(&mut self, frame: Bytes) -> Option<FromAgent> {
        let received = Instant::now();
        match parse(frame).await {
            Ok(FromCoordinator::Job(frame)) => return self.submit(job_of(frame, received, self.agreed)).await,
            Ok(FromCoordinator::MalformedJob(malformed)) => return self.submit(Err(malformed)).await,
            Ok(FromCoordinator::JobCancel { job_id }) => {
                // Awaited, so that whatever is read after it is answered after the job has fallen silent. Without a router
                // there is no job either.
                let _ = self.cancels.send(CancelJob { generation: self.generation, job: job_id }).await;
            }
            Ok(FromCoordinator::Unknown { kind }) => {
                log::debug!("frame of an unknown type ignored type={}", Label(&kind));
            }
            Ok(
                FromCoordinator::AuthChallenge { .. }
                | FromCoordinator::AuthOk { .. }
                | FromCoordinator::AuthFailed { .. },
            ) => self.skip("a frame of the handshake after it"),
            Err(error) => self.skip(error.to_string()),
        }
        None
    }

    fn binary(&mut self, len: usize) {
        self.skip(format!("a binary frame of {len} bytes"));
    }
}

fn job_of(frame: JobFrame, received: Instant, agreed: Extensions) -> Result<Job, MalformedJob> {
    let (endpoint, form) = frame.asked(agreed).map_err(|why| MalformedJob { job_id: frame.job_id, why })?;
    let JobFrame { job_id: id, model_id: model, request, members, deadline, .. } = frame;
    Ok(Job { id, model, endpoint, form, request, members, received, deadline })
}

/// Parses a frame, a large one on a thread where it holds up nobody. The next frame waits: order is kept.
async fn parse(frame: Bytes) -> Result<FromCoordinator, FrameError> {
    if frame.len() < LARGE {
        return FromCoordinator::parse(&frame);
    }
    let parsed = tokio::task::spawn_blocking(move || FromCoordinator::parse(&frame)).await;
    parsed.unwrap_or(Err(FrameError::NotAnObject))
}
