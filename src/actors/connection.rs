//! One connection to the coordinator, from the dial to its end.

mod inbox;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::inbox::JobInbox;
use super::guard::Guard;
use super::messages::{ConnectionUp, RouterInputs};
use crate::core::session::auth2::CLIENT_NONCE;
use crate::core::session::handshake::{Credentials, Handshake, Received, SessionGrant, Step};
use crate::core::session::nonces::SignedNonces;
use crate::identity::{Identity, IdentityError};
use crate::messages::ids::{Generation, ProviderId};
use crate::messages::lifecycle::{HandoverAnnounced, OfferSession, Stop};
use crate::messages::secret::Secret;
use crate::messages::wire::{Extensions, FromAgent, ResumeRequest};
use crate::relay::allowance::Allowance;
use crate::relay::outbox::Outbox;
use crate::telemetry::Events;
use crate::telemetry::events::{
    Awaited, ConnectFailure, Connected, Dialling, DisconnectCause, NotStored, ProviderIdNotStored, ProviderIdReplaced,
    SessionResumed,
};
use crate::telemetry::repeats::PERIOD;
use crate::transport::websocket::codec::{Frame, Role};
use crate::transport::websocket::link::{Connector, Link};
use crate::transport::websocket::pump::{self, PumpEnd};

/// How long each step of the handshake may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long the close after a failed handshake may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long storing the provider id may take.
const STORE_LIMIT: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) enum ConnectionExit {
    /// Before `auth_ok`.
    Failed(ConnectFailure),
    /// After it.
    Ended(DisconnectCause),
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
    pub(super) requires_auth2: bool,
    pub(super) max_message: usize,
    /// What the jobs of all sessions may keep.
    pub(super) sessions: Allowance,
    pub(super) events: Events,
}

/// The receivers of the connection's messages.
#[derive(Clone)]
pub(super) struct Listeners {
    pub(super) up: [Recipient<ConnectionUp>; 2],
    pub(super) router: RouterInputs,
    pub(super) handovers: Recipient<HandoverAnnounced>,
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
    let established = establish(generation, &setup, &listeners.router.sessions).await;
    let (link, Accepted { provider_id, agreed, session }) = match established {
        Ok(established) => established,
        Err(failure) => return ConnectionExit::Failed(failure),
    };
    let (reader, line) = link.split();
    let outbox = Outbox::new(generation, agreed, Arc::clone(&line), &setup.sessions);
    setup.events.emit(Connected { generation, provider_id, extensions: agreed });
    if let Some(jobs) = session.as_ref().and_then(|session| session.resumed.as_ref()).map(Vec::len) {
        setup.events.emit(SessionResumed { generation, jobs });
    }
    for listener in &listeners.up {
        listener.do_send(ConnectionUp { outbox: outbox.clone(), session: session.clone() });
    }
    let Listeners { router, handovers, .. } = listeners;
    let mut inbox = JobInbox { generation, agreed, events: setup.events.clone(), router, handovers };
    let end = tokio::select! {
        end = pump::run(reader, &line, &outbox, &mut inbox) => end,
        never = count_repeats(&setup.events) => match never {},
    };
    setup.events.count_repeats();
    match end {
        PumpEnd::ClosedByUs => ConnectionExit::Ended(DisconnectCause::ClosedByAgent),
        PumpEnd::Link(end) => ConnectionExit::Ended(end.into()),
    }
}

/// Reports once a minute how many events the coordinator caused that were not logged one by one.
async fn count_repeats(events: &Events) -> Infallible {
    loop {
        sleep(PERIOD).await;
        events.count_repeats();
    }
}

/// Dials and authenticates.
async fn establish(
    generation: Generation,
    setup: &ConnectionSetup,
    sessions: &Recipient<OfferSession>,
) -> Result<(Link, Accepted), ConnectFailure> {
    setup.events.emit(Dialling { generation, addr: setup.connector.target().to_owned() });
    let upgraded = setup.connector.dial().await?;
    let mut link = Link::new(upgraded, Role::Client, setup.max_message);
    match authenticate(&mut link, generation, setup, sessions).await {
        Ok(accepted) => {
            let provider_id = store(accepted.provider_id, setup).await;
            Ok((link, Accepted { provider_id, ..accepted }))
        }
        Err(failure) => {
            let goodbye = Frame::Close { code: Some(1002), reason: String::new() };
            // The connection is closed in either case.
            let _ = timeout(GOODBYE, link.send(&goodbye)).await;
            Err(failure)
        }
    }
}

/// The result of a handshake.
struct Accepted {
    provider_id: Option<ProviderId>,
    agreed: Extensions,
    /// The session, if `resume` was agreed on.
    session: Option<SessionGrant>,
}

async fn authenticate(
    link: &mut Link,
    generation: Generation,
    setup: &ConnectionSetup,
    sessions: &Recipient<OfferSession>,
) -> Result<Accepted, ConnectFailure> {
    let client_nonce = rand::random();
    let mut resume = None;
    let mut state = Handshake::AwaitingChallenge;
    let mut limit = Instant::now() + STEP_LIMIT;
    loop {
        let awaited = if state == Handshake::AwaitingChallenge { Awaited::Challenge } else { Awaited::Verdict };
        let frame = timeout_at(limit, link.next()).await.map_err(|_| ConnectFailure::TimedOut(awaited))??;
        let received = match &frame {
            Frame::Text(text) => Received::Text(text),
            Frame::Binary(_) => Received::Binary,
            Frame::Ping(_) => Received::Ping,
            Frame::Pong(_) => Received::Pong,
            Frame::Close { .. } => Received::Close,
        };
        if state == Handshake::AwaitingChallenge && matches!(frame, Frame::Text(_)) {
            // The response to the challenge lists the jobs that are kept at this moment.
            resume = sessions.send(OfferSession { generation }).await.ok().flatten();
        }
        let (next, step) = advance(state, received, setup, &client_nonce, resume.as_ref());
        state = next;
        let answer = match step {
            Step::Accepted { provider_id, agreed, session } => return Ok(Accepted { provider_id, agreed, session }),
            Step::Failed(failure) => return Err(failure.into()),
            Step::Send(response) => {
                limit = Instant::now() + STEP_LIMIT;
                let response = serde_json::to_vec(&FromAgent::AuthResponse(response));
                // Plain data with string keys always serializes.
                Frame::Text(response.unwrap_or_default().into())
            }
            Step::Wait => match frame {
                Frame::Ping(payload) => Frame::Pong(payload),
                _ => continue,
            },
        };
        timeout_at(limit, link.send(&answer)).await.map_err(|_| ConnectFailure::TimedOut(Awaited::Room))??;
    }
}

fn advance(
    state: Handshake,
    received: Received<'_>,
    setup: &ConnectionSetup,
    client_nonce: &[u8; CLIENT_NONCE],
    resume: Option<&ResumeRequest>,
) -> (Handshake, Step) {
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
            resume,
            coordinator: setup.connector.target(),
            client_nonce,
            requires_auth2: setup.requires_auth2,
        },
    )
}

/// Stores a new provider id before the connection goes on. If the disk refuses it or does not respond, the connection goes
/// on: the id holds for this process, and the next connection tries again.
async fn store(given: Option<ProviderId>, setup: &ConnectionSetup) -> Option<ProviderId> {
    if let Some(new) = given {
        let (identity, id) = (setup.identity.clone(), new.clone());
        match written(move || identity.store_provider_id(&id)).await {
            Ok(None) => {}
            Ok(Some(old)) => setup.events.emit(ProviderIdReplaced { old, new }),
            Err(cause) => setup.events.emit(ProviderIdNotStored { cause }),
        }
    }
    setup.identity.provider_id()
}

/// Writes to the disk off the arbiter, and waits for it no longer than [`STORE_LIMIT`].
async fn written<T: Send + 'static>(
    write: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, NotStored> {
    match timeout(STORE_LIMIT, tokio::task::spawn_blocking(write)).await {
        Err(_) => Err(NotStored::TooSlow(STORE_LIMIT)),
        Ok(Err(_)) => Err(NotStored::Panicked),
        Ok(Ok(written)) => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[actix_rt::test]
    async fn a_disk_that_does_not_answer_is_waited_for_no_longer_than_the_limit() {
        tokio::time::pause();
        let (disk, answer) = mpsc::channel::<()>();
        let hanging = written(move || {
            // It returns when the test ends.
            let _ = answer.recv();
            Ok(())
        });
        // A timer fires at the next whole millisecond.
        let passes = tokio::time::advance(STORE_LIMIT + Duration::from_millis(1));
        let (stored, ()) = futures_util::join!(hanging, passes);
        assert!(matches!(stored, Err(NotStored::TooSlow(STORE_LIMIT))), "{stored:?}");
        drop(disk);
    }

    #[actix_rt::test]
    async fn what_the_disk_answers_is_passed_on() {
        assert!(matches!(written(|| Ok(7)).await, Ok(7)));
        let refused = || Err::<(), _>(IdentityError::OnlyLookedAt { path: "x".into() });
        let stored = written(refused).await;
        let refusal = |cause: &NotStored| matches!(cause, NotStored::Refused(error) if matches!(**error, IdentityError::OnlyLookedAt { .. }));
        assert!(stored.as_ref().is_err_and(refusal), "{stored:?}");
        assert!(matches!(written::<()>(|| panic!("as the test wants it")).await, Err(NotStored::Panicked)));
    }
}
