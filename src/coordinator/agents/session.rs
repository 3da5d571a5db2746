//! One agent's connection: an actor that reads the agent's WebSocket and updates the roster and the response channels
//! of its jobs.
//!
//! The actor runs on the thread that serves the connection. This is the only file that imports actix-web-actors, which
//! leaves some work to its users: it limits frames to 64 KiB and delivers fragments unassembled ([`inbound`](super::inbound)
//! handles both), it does not answer a close, and its outgoing queue has no bound
//! ([`SessionLink`](super::link::SessionLink) has one).
//!
//! A connection ends once. A close by either side, an error, a timeout and a panic all run [`Session::leave`], which removes
//! the agent from the roster. Its jobs wait for the agent in their session, or end as lost, as
//! [`session_lifecycle`](super::session_lifecycle) describes.
//!
//! The states of a connection are in four files: this one has the actor, [`admit`] the handshake, [`frames_in`] the frames
//! of an admitted agent, [`frames_out`] the frames to it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Handler, Running, StreamHandler};
use actix_http::ws::Item;
use actix_web::http::header::{ORIGIN, RETRY_AFTER};
use actix_web::web::{Data, Payload};
use actix_web::{Error, HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseCode, ProtocolError, WebsocketContext, WsResponseBuilder};

use super::agent_session::ConnectionJobs;
use super::frame_scanner::HeaderError;
use super::frames::{self, FrameError};
use super::handshake::{AgentKey, Nonce};
use super::inbound::{Assembled, FragmentError, Fragments, Meter, Metered};
use super::link::{CloseReason, SessionCommand};
use super::peer::Peer;
use super::workload::MissingJob;
use crate::coordinator::events::{
    AgentDisconnected, AgentFrameSkipped, AgentRefused, AgentRefusedCause, AgentSilent, ProtocolViolated, SessionEnd,
};
use crate::coordinator::fleet::response_channel::ResponseEnd;
use crate::coordinator::fleet::roster::SessionId;
use crate::coordinator::state::{CoordinatorState, HandshakePermit};
use crate::messages::ids::{JobId, ProviderId};
use crate::messages::wire::{Extension, Extensions, FromAgent, FromCoordinator};
use crate::transport::write_deadline::WriteLimit;

mod admit;
mod frames_in;
mod frames_out;

/// The largest frame of an agent that has not proved its key, in bytes.
const MAX_HANDSHAKE_FRAME: usize = 16 << 10;
/// The same where `resume` is offered: the frame may list 4,096 jobs, of at most 94 bytes each.
const MAX_RESUMING_FRAME: usize = 512 << 10;
/// How many such agents may send so much at the same time: anybody can make the coordinator hold that. The others can list some
/// 170 jobs, or try again.
const MOST_RESUMING: usize = 32;
/// How long the peer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /agent`: starts a session.
pub(crate) async fn accept(
    req: HttpRequest,
    payload: Payload,
    state: Data<CoordinatorState>,
) -> Result<HttpResponse, Error> {
    if state.is_stopping() {
        return Ok(HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "1")).finish());
    }
    // Any web page can make a browser open a WebSocket to this host, and would receive prompts. Browsers send an Origin
    // header, agents do not.
    if req.headers().contains_key(ORIGIN) {
        return Ok(HttpResponse::Forbidden().finish());
    }
    let Some(permit) = state.begin_handshake() else {
        return Ok(HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "5")).finish());
    };
    let may_resume = state.config.extensions.contains(Extension::Resume) && permit.others() < MOST_RESUMING;
    let write_limit = req.conn_data::<WriteLimit>().cloned();
    if let Some(limit) = &write_limit {
        limit.set(state.config.handshake_timeout);
    }
    let meter = Meter::new(if may_resume { MAX_RESUMING_FRAME } else { MAX_HANDSHAKE_FRAME });
    let peer = Peer(req.peer_addr());
    let max_message = state.config.max_agent_message;
    let session = Session::new(state.into_inner(), permit, meter.clone(), write_limit, peer);
    // The codec's limit is above the meter's, so that only the meter decides what is too large.
    WsResponseBuilder::new(session, &req, Metered::new(payload, meter)).frame_size(max_message).start()
}

/// The state of a session.
enum Stage {
    /// The challenge was sent.
    Handshake(Nonce),
    /// The agent is on the roster.
    Admitted(Rc<Admitted>),
    /// A close was sent. All frames but the answer to it are ignored.
    Closing,
}

/// An agent that has proved its key.
struct Admitted {
    id: SessionId,
    key: AgentKey,
    provider: ProviderId,
    agreed: Extensions,
    /// The jobs of its session, as long as no other connection has it.
    jobs: ConnectionJobs,
}

struct Session {
    state: Arc<CoordinatorState>,
    /// Held until the agent has proved its key.
    permit: Option<HandshakePermit>,
    meter: Rc<Meter>,
    /// How long the agent may take no bytes: the time of the handshake until it has proved its key. None in memory.
    write_limit: Option<WriteLimit>,
    fragments: Fragments,
    stage: Stage,
    /// Jobs that the agent no longer has, of this session or of the one that it replaced. They end when the agent sends its offer, and
    /// may then be sent to it again.
    missing: Vec<MissingJob>,
    /// Whether a timer runs that acknowledges what clients take over.
    acknowledges_later: bool,
    /// Jobs whose terminal frames were taken over and not acknowledged yet.
    ended: Vec<JobId>,
    /// Whether a timer runs that acknowledges these.
    acknowledges_ends_later: bool,
    /// Shared with the [`SessionLink`](super::link::SessionLink)s to this session: they add to it, the session subtracts.
    unsent: Arc<AtomicUsize>,
    peer: Peer,
}

type Context = WebsocketContext<Session>;

impl Actor for Session {
    type Context = Context;

    fn started(&mut self, ctx: &mut Context) {
        let Stage::Handshake(nonce) = &self.stage else { return };
        let extensions = self.state.extensions;
        send(ctx, &FromCoordinator::AuthChallenge { nonce: nonce.to_base64(), extensions });
        ctx.run_later(self.state.config.handshake_timeout, |session, ctx| {
            if matches!(session.stage, Stage::Handshake(_)) {
                let (peer, cause) = (session.peer, AgentRefusedCause::HandshakeTimeout);
                session.state.events.emit(&AgentRefused { peer, version: None, cause });
                session.close(ctx, CloseCode::Policy, "handshake timeout");
            }
        });
        ctx.run_interval(self.state.config.ping_interval, |_, ctx| ctx.ping(b""));
        self.watch(ctx);
    }

    fn stopping(&mut self, _: &mut Context) -> Running {
        self.leave(SessionEnd::ConnectionEnded);
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Context) {
        // After a panic only this method runs.
        self.leave(SessionEnd::SessionFailed);
    }
}

impl Session {
    fn new(
        state: Arc<CoordinatorState>,
        permit: HandshakePermit,
        meter: Rc<Meter>,
        write_limit: Option<WriteLimit>,
        peer: Peer,
    ) -> Self {
        Self {
            state,
            permit: Some(permit),
            meter,
            write_limit,
            fragments: Fragments::default(),
            stage: Stage::Handshake(Nonce::random(&mut rand::rng())),
            missing: Vec::new(),
            acknowledges_later: false,
            ended: Vec::new(),
            acknowledges_ends_later: false,
            unsent: Arc::default(),
            peer,
        }
    }

    /// Ends the session when no byte was received for too long. Otherwise checks again when that could be the case.
    fn watch(&mut self, ctx: &mut Context) {
        let limit = self.state.config.agent_silence;
        let left = limit.saturating_sub(self.meter.last_byte.get().elapsed());
        if left.is_zero() {
            self.state.events.emit(&AgentSilent { peer: self.peer, limit });
            self.leave(SessionEnd::Silence);
            ctx.stop();
        } else {
            ctx.run_later(left, Self::watch);
        }
    }

    /// Removes the agent from the roster. Its jobs wait or are lost. The second call does nothing.
    fn leave(&mut self, cause: SessionEnd) {
        if let Stage::Admitted(admitted) = std::mem::replace(&mut self.stage, Stage::Closing) {
            let jobs_lost = self.state.leave_session(admitted.key, &admitted.jobs);
            let provider = admitted.provider.clone();
            self.state.events.emit(&AgentDisconnected { provider, jobs_lost, cause });
        }
        self.finish_missing();
    }

    fn admitted(&self) -> Option<Rc<Admitted>> {
        match &self.stage {
            Stage::Admitted(admitted) => Some(Rc::clone(admitted)),
            Stage::Handshake(_) | Stage::Closing => None,
        }
    }

    /// Sends a close and waits a short time for the answer.
    fn close(&mut self, ctx: &mut Context, code: CloseCode, reason: &'static str) {
        self.acknowledge_ends(ctx);
        self.leave(SessionEnd::Closed(reason));
        ctx.close(Some(ws::CloseReason { code, description: Some(reason.into()) }));
        ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
    }

    fn violation(&mut self, ctx: &mut Context, code: CloseCode, reason: &'static str) {
        self.state.events.emit(&ProtocolViolated { peer: self.peer, violation: reason });
        self.close(ctx, code, reason);
    }

    fn text(&mut self, ctx: &mut Context, text: &[u8]) {
        match (frames::read(text), &self.stage) {
            (_, Stage::Closing) => {}
            (Ok(FromAgent::AuthResponse(response)), Stage::Handshake(nonce)) => {
                let nonce = nonce.clone();
                self.authenticate(ctx, &nonce, &response);
            }
            (_, Stage::Handshake(_)) => self.violation(ctx, CloseCode::Protocol, "expected auth_response"),
            (Ok(frame), Stage::Admitted(admitted)) => {
                let admitted = Rc::clone(admitted);
                self.frame(ctx, &admitted, frame);
            }
            (Err(error), Stage::Admitted(admitted)) => {
                let admitted = Rc::clone(admitted);
                let provider = admitted.provider.clone();
                self.state.events.emit(&AgentFrameSkipped { provider, bytes: text.len(), cause: error });
                if let FrameError::BadFieldOfJob(job) = error {
                    self.give_up(ctx, &admitted, job, ResponseEnd::Unreadable);
                }
            }
        }
    }
}

impl Handler<SessionCommand> for Session {
    type Result = ();

    fn handle(&mut self, message: SessionCommand, ctx: &mut Context) {
        match message {
            SessionCommand::Run(job) => self.run(ctx, job),
            SessionCommand::Cancel(job) => self.cancel(ctx, job),
            SessionCommand::Acknowledge(job) => self.acknowledge(ctx, job),
            SessionCommand::Handover(deadline) => self.hand_over(ctx, deadline),
            SessionCommand::Close(_) if matches!(self.stage, Stage::Closing) => {}
            SessionCommand::Close(CloseReason::Deploy) => self.close(ctx, CloseCode::Away, "drain:deploy"),
            SessionCommand::Close(CloseReason::Replaced) => self.close(ctx, CloseCode::Policy, "replaced"),
            SessionCommand::Close(CloseReason::Resumed) => self.close(ctx, CloseCode::Normal, "replaced"),
        }
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for Session {
    fn handle(&mut self, message: Result<ws::Message, ProtocolError>, ctx: &mut Context) {
        let closing = matches!(self.stage, Stage::Closing);
        match message {
            Ok(ws::Message::Close(reason)) => {
                self.leave(SessionEnd::ClosedByAgent);
                if !closing {
                    ctx.close(reason);
                }
                ctx.stop();
            }
            // The codec can return the same error at every poll.
            Err(_) if closing => ctx.stop(),
            Ok(_) if closing => {}
            Ok(ws::Message::Text(text)) => self.text(ctx, text.as_bytes()),
            Ok(ws::Message::Continuation(Item::FirstBinary(_))) if !self.accepts_binary() => {
                self.violation(ctx, CloseCode::Protocol, "unexpected fragment");
            }
            Ok(ws::Message::Continuation(item)) => match self.fragments.add(item, self.meter.max_frame.get()) {
                Ok(None) => {}
                Ok(Some(Assembled::Text(text))) => self.text(ctx, &text),
                Ok(Some(Assembled::Binary(bytes))) => self.binary(ctx, &bytes),
                Err(FragmentError::TooLarge) => self.violation(ctx, CloseCode::Size, "message too large"),
                Err(FragmentError::OutOfOrder) => self.violation(ctx, CloseCode::Protocol, "unexpected fragment"),
            },
            Ok(ws::Message::Ping(payload)) => ctx.pong(&payload),
            Ok(ws::Message::Pong(_) | ws::Message::Nop) => {}
            Ok(ws::Message::Binary(bytes)) => self.binary(ctx, &bytes),
            Err(error) => match (self.meter.header_error.get(), error) {
                (Some(HeaderError::TooLarge), _) => self.violation(ctx, CloseCode::Size, "frame too large"),
                // The socket failed, as it does when the agent's process is killed.
                (None, ProtocolError::Io(_)) => ctx.stop(),
                (Some(HeaderError::Invalid) | None, _) => self.violation(ctx, CloseCode::Protocol, "not WebSocket"),
            },
        }
    }

    fn finished(&mut self, ctx: &mut Context) {
        // The stream also ends after a bad header. Then the close must still be written.
        if !matches!(self.stage, Stage::Closing) {
            ctx.stop();
        }
    }
}

fn send(ctx: &mut Context, frame: &FromCoordinator) {
    match serde_json::to_string(frame) {
        Ok(text) => ctx.text(text),
        Err(_) => ctx.stop(),
    }
}

#[cfg(test)]
mod tests;
