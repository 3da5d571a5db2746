//! One agent's connection: the WebSocket in, the roster and the relays out.
//!
//! An actor on the thread that serves the connection, driven by its socket. It is the only place that knows
//! actix-web-actors, whose contract has corners: frames of 64 KiB and fragments as they come unless one sees to both
//! (done in [`inbound`](super::inbound)), a close that is answered by hand, and an outgoing queue without a bound
//! (bounded by [`Link`]).
//!
//! It ends once. Whatever ends it (a close of either side, an error, silence, a panic) runs [`Session::leave`], which
//! takes the agent off the roster and drops the outlets of its jobs, which tells their clients.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use actix::{Actor, ActorContext, AsyncContext, Handler, Running, StreamHandler};
use actix_http::ws::Item;
use actix_web::http::header::{ORIGIN, RETRY_AFTER};
use actix_web::web::{Data, Payload};
use actix_web::{Error, HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseCode, CloseReason, ProtocolError, WebsocketContext, WsResponseBuilder};
use bytes::Bytes;
use tokio::time::Instant;

use super::borders::FrameFault;
use super::frames::{self, FrameError};
use super::guesses::Peer;
use super::handshake::{Grounds, Nonce};
use super::inbound::{FragmentError, Fragments, Meter, Metered, Whole};
use super::workload::{Unfit, Workload};
use crate::coordinator::fleet::relay::End;
use crate::coordinator::fleet::roster::{Newcomer, SessionId};
use crate::coordinator::state::{Farewell, Hub, Link, RunJob, ToSession, UnprovedPlace};
use crate::messages::ids::{JobId, ProviderId};
use crate::messages::wire::{AuthResponse, BinaryChunk, Extension, Extensions, FromAgent, FromCoordinator, ModelOffer};
use crate::telemetry::Outside;

/// The largest frame of an agent that has not proved its key, in bytes.
const MAX_HANDSHAKE_FRAME: usize = 16 << 10;
/// How long the peer has to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /agent`: starts a session.
pub(crate) async fn accept(req: HttpRequest, payload: Payload, hub: Data<Hub>) -> Result<HttpResponse, Error> {
    if hub.is_stopping() {
        return Ok(HttpResponse::ServiceUnavailable().finish());
    }
    // Any page may open a WebSocket to this host, and would be sent prompts. Browsers say where a page is from; agents
    // are from nowhere.
    if req.headers().contains_key(ORIGIN) {
        return Ok(HttpResponse::Forbidden().finish());
    }
    let Some(place) = hub.enter() else {
        return Ok(HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "5")).finish());
    };
    let meter = Meter::new(MAX_HANDSHAKE_FRAME);
    let peer = Peer(req.peer_addr());
    let max_message = hub.config.max_agent_message;
    let session = Session::new(hub.into_inner(), place, meter.clone(), peer);
    // The codec's own bound lies above the meter's, so that the meter alone decides what is too large.
    WsResponseBuilder::new(session, &req, Metered::new(payload, meter)).frame_size(max_message).start()
}

/// Where a session is.
enum Stage {
    /// The challenge is out.
    Handshake(Nonce),
    /// The agent is on the roster.
    Steady { id: SessionId, provider: ProviderId, agreed: Extensions },
    /// A close was sent; what comes is of no interest but for its answer.
    Closing,
}

struct Session {
    hub: Arc<Hub>,
    /// Held until the agent has proved its key.
    place: Option<UnprovedPlace>,
    meter: Rc<Meter>,
    fragments: Fragments,
    stage: Stage,
    jobs: Workload,
    /// Shared with the [`Link`]s to this session: counted up there, down here.
    unsent: Arc<AtomicUsize>,
    peer: Peer,
    /// A malformed frame has been logged loudly; the next ones are not.
    complained: bool,
}

type Context = WebsocketContext<Session>;

impl Actor for Session {
    type Context = Context;

    fn started(&mut self, ctx: &mut Context) {
        let Stage::Handshake(nonce) = &self.stage else { return };
        let extensions = self.hub.config.extensions;
        send(ctx, &FromCoordinator::AuthChallenge { nonce: nonce.to_base64(), extensions });
        ctx.run_later(self.hub.config.handshake_timeout, |session, ctx| {
            if matches!(session.stage, Stage::Handshake(_)) {
                log::warn!("agent refused peer={} cause=handshake_timeout", session.peer);
                session.close(ctx, CloseCode::Policy, "handshake timeout");
            }
        });
        ctx.run_interval(self.hub.config.ping_interval, |_, ctx| ctx.ping(b""));
        self.watch(ctx);
    }

    fn stopping(&mut self, _: &mut Context) -> Running {
        self.leave("connection ended");
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Context) {
        // After a panic this is all that runs.
        self.leave("session failed");
    }
}

impl Session {
    fn new(hub: Arc<Hub>, place: UnprovedPlace, meter: Rc<Meter>, peer: Peer) -> Self {
        Self {
            hub,
            place: Some(place),
            meter,
            fragments: Fragments::default(),
            stage: Stage::Handshake(Nonce::random(&mut rand::rng())),
            jobs: Workload::default(),
            unsent: Arc::default(),
            peer,
            complained: false,
        }
    }

    /// Ends the session when no byte has come for too long; otherwise looks again when that could be.
    fn watch(&mut self, ctx: &mut Context) {
        let limit = self.hub.config.agent_silence;
        let left = limit.saturating_sub(self.meter.last_byte.get().elapsed());
        if left.is_zero() {
            log::warn!("agent silent peer={} seconds={}", self.peer, limit.as_secs());
            self.leave("silence");
            ctx.stop();
        } else {
            ctx.run_later(left, Self::watch);
        }
    }

    /// Takes the agent off the roster and lets its jobs go. Does nothing the second time.
    fn leave(&mut self, cause: &str) {
        if let Stage::Steady { id, provider, .. } = std::mem::replace(&mut self.stage, Stage::Closing) {
            let jobs = self.jobs.len();
            // A session that was replaced is off the roster already.
            self.hub.leave(id);
            log::info!("agent gone provider={provider} jobs_lost={jobs} cause={cause:?}");
        }
        self.jobs.clear();
    }

    /// Closes from this side and waits a little for the other.
    fn close(&mut self, ctx: &mut Context, code: CloseCode, reason: &'static str) {
        self.leave(reason);
        ctx.close(Some(CloseReason { code, description: Some(reason.into()) }));
        ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
    }

    fn violation(&mut self, ctx: &mut Context, code: CloseCode, reason: &'static str) {
        log::warn!("agent broke the protocol peer={} violation={reason:?}", self.peer);
        self.close(ctx, code, reason);
    }

    fn text(&mut self, ctx: &mut Context, text: &[u8]) {
        match (frames::read(text), &self.stage) {
            (_, Stage::Closing) => {}
            (Ok(FromAgent::AuthResponse(answer)), Stage::Handshake(nonce)) => {
                let nonce = nonce.clone();
                self.authenticate(ctx, &nonce, &answer);
            }
            (_, Stage::Handshake(_)) => self.violation(ctx, CloseCode::Protocol, "expected auth_response"),
            (Ok(frame), Stage::Steady { id, provider, agreed }) => {
                let (id, provider, agreed) = (*id, provider.clone(), *agreed);
                self.steady(ctx, id, &provider, agreed, frame);
            }
            (Err(error), Stage::Steady { id, provider, .. }) => {
                let id = *id;
                let level = if self.complained { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "frame skipped provider={provider} bytes={} cause=\"{error}\"", text.len());
                self.complained = true;
                if let FrameError::BadFieldOfJob(job) = error {
                    self.give_up(ctx, id, job, End::Garbled);
                }
            }
        }
    }

    fn authenticate(&mut self, ctx: &mut Context, nonce: &Nonce, answer: &AuthResponse) {
        if self.hub.is_stopping() {
            return self.close(ctx, CloseCode::Away, "drain:deploy");
        }
        let admitted = self.hub.admission.admit(nonce, answer, self.peer.network(), Instant::now());
        let (key, grounds) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                log::warn!(
                    "agent refused peer={} version=\"{}\" cause=\"{refusal}\"",
                    self.peer,
                    Outside(&answer.agent_version)
                );
                send(ctx, &FromCoordinator::AuthFailed { reason: Some(refusal.to_string()) });
                return self.close(ctx, CloseCode::Policy, "auth failed");
            }
        };
        let Some(provider) = key.provider_id() else { return ctx.stop() };
        let link = Link::new(ctx.address().recipient(), self.unsent.clone());
        let since = SystemTime::now();
        // What was not on offer is not agreed on, whatever the agent says.
        let agreed = answer.extensions.common(self.hub.config.extensions);
        let (name, extensions) = (provider.clone(), agreed);
        let version = answer.agent_version.clone();
        let newcomer = Newcomer { key, provider: name, version, extensions, since, link };
        let (id, replaced) = self.hub.roster().join(newcomer);
        if let Some(older) = replaced {
            log::warn!("agent replaced provider={provider}: a newer connection has the same key");
            older.tell(ToSession::Close(Farewell::Replaced));
        }
        log::info!(
            "agent connected provider={provider} peer={} version=\"{}\" grounds={grounds:?} extensions={agreed}",
            self.peer,
            Outside(&answer.agent_version)
        );
        if grounds == Grounds::Code {
            log::info!(
                "agent enrolled provider={provider} pubkey={}: add the key to OUTPOST_COORDINATOR_AGENT_KEYS to know it \
                 after a restart",
                key.to_base64()
            );
        }
        self.meter.max_frame.set(self.hub.config.max_agent_message);
        send(ctx, &FromCoordinator::AuthOk { provider_id: Some(provider.as_str().into()) });
        self.stage = Stage::Steady { id, provider, agreed };
        self.place = None;
    }

    fn steady(
        &mut self,
        ctx: &mut Context,
        id: SessionId,
        provider: &ProviderId,
        agreed: Extensions,
        frame: FromAgent,
    ) {
        match frame {
            FromAgent::Capabilities(offer) => {
                let model = |model: &ModelOffer| Outside(model.model_id.as_str()).to_string();
                let models: Vec<_> = offer.models.iter().take(8).map(model).collect();
                let (count, total, models) = (offer.models.len(), offer.limits.max_concurrent_total, models.join(","));
                log::info!("agent offers provider={provider} slots={total} count={count} models=\"{models}\"");
                self.hub.roster().offer(id, offer);
            }
            FromAgent::Heartbeat(figures) => self.hub.roster().heartbeat(id, figures),
            FromAgent::JobChunk(chunk) => {
                let taken = self.jobs.take(&chunk, agreed);
                self.react(ctx, id, taken);
            }
            FromAgent::JobDone(done) => {
                self.end(id, done.job_id, End::Done);
            }
            FromAgent::JobError(error) => {
                self.end(id, error.job_id, End::Failed { code: error.error_code, message: error.message });
            }
            FromAgent::AuthResponse(_) | FromAgent::Unknown => {
                log::debug!("frame ignored provider={provider}");
            }
        }
    }

    fn takes_binary(&self) -> bool {
        matches!(self.stage, Stage::Steady { agreed, .. } if agreed.contains(Extension::Binary))
    }

    fn binary(&mut self, ctx: &mut Context, frame: &Bytes) {
        let id = match self.stage {
            Stage::Steady { id, .. } if self.takes_binary() => id,
            _ => return self.violation(ctx, CloseCode::Protocol, "unexpected binary message"),
        };
        let chunk = match BinaryChunk::parse(frame) {
            Ok(chunk) => chunk,
            Err(error) => return self.violation(ctx, CloseCode::Protocol, error.as_str()),
        };
        let taken = self.jobs.take_binary(&chunk);
        self.react(ctx, id, taken);
    }

    fn react(&mut self, ctx: &mut Context, id: SessionId, taken: Result<(), Unfit>) {
        match taken {
            Ok(()) => {}
            Err(Unfit::GiveUp(job, end)) => self.give_up(ctx, id, job, end),
            Err(Unfit::Violation(reason)) => self.violation(ctx, CloseCode::Protocol, reason),
        }
    }

    /// Ends a job that the agent may still work on.
    fn give_up(&mut self, ctx: &mut Context, id: SessionId, job_id: JobId, end: End) {
        if self.end(id, job_id, end) {
            send(ctx, &FromCoordinator::JobCancel { job_id });
        }
    }

    /// A job has ended. The slot is freed before the client knows, who may come back at once. `false` if there is no such
    /// job.
    fn end(&mut self, id: SessionId, job: JobId, end: End) -> bool {
        let Some(outlet) = self.jobs.end(job) else { return false };
        if end == End::Done {
            self.hub.complete(id, job);
        } else {
            self.hub.release(id, job);
        }
        outlet.finish(end);
        true
    }

    fn run(&mut self, ctx: &mut Context, job: RunJob) {
        self.unsent.fetch_sub(job.frame.len(), Ordering::Relaxed);
        // Off the roster: the outlet is dropped, which tells that the job was not sent.
        if matches!(self.stage, Stage::Steady { .. }) {
            self.jobs.begin(job.id, job.outlet);
            ctx.text(job.frame);
        }
    }
}

impl Handler<ToSession> for Session {
    type Result = ();

    fn handle(&mut self, message: ToSession, ctx: &mut Context) {
        match message {
            ToSession::Run(job) => self.run(ctx, job),
            ToSession::Cancel(job_id) => {
                if self.jobs.forget(job_id) {
                    send(ctx, &FromCoordinator::JobCancel { job_id });
                }
            }
            ToSession::Close(_) if matches!(self.stage, Stage::Closing) => {}
            ToSession::Close(Farewell::Deploy) => self.close(ctx, CloseCode::Away, "drain:deploy"),
            ToSession::Close(Farewell::Replaced) => self.close(ctx, CloseCode::Policy, "replaced"),
        }
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for Session {
    fn handle(&mut self, message: Result<ws::Message, ProtocolError>, ctx: &mut Context) {
        let closing = matches!(self.stage, Stage::Closing);
        match message {
            Ok(ws::Message::Close(reason)) => {
                self.leave("closed by the agent");
                if !closing {
                    ctx.close(reason);
                }
                ctx.stop();
            }
            // The codec may give the same error again and again.
            Err(_) if closing => ctx.stop(),
            Ok(_) if closing => {}
            Ok(ws::Message::Text(text)) => self.text(ctx, text.as_bytes()),
            Ok(ws::Message::Continuation(Item::FirstBinary(_))) if !self.takes_binary() => {
                self.violation(ctx, CloseCode::Protocol, "unexpected fragment");
            }
            Ok(ws::Message::Continuation(item)) => match self.fragments.add(item, self.meter.max_frame.get()) {
                Ok(None) => {}
                Ok(Some(Whole::Text(text))) => self.text(ctx, &text),
                Ok(Some(Whole::Binary(bytes))) => self.binary(ctx, &bytes),
                Err(FragmentError::TooLarge) => self.violation(ctx, CloseCode::Size, "message too large"),
                Err(FragmentError::OutOfOrder) => self.violation(ctx, CloseCode::Protocol, "unexpected fragment"),
            },
            Ok(ws::Message::Ping(payload)) => ctx.pong(&payload),
            Ok(ws::Message::Pong(_) | ws::Message::Nop) => {}
            Ok(ws::Message::Binary(bytes)) => self.binary(ctx, &bytes),
            Err(_) => match self.meter.fault.get() {
                Some(FrameFault::TooLarge) => self.violation(ctx, CloseCode::Size, "frame too large"),
                Some(FrameFault::BadHeader) | None => self.violation(ctx, CloseCode::Protocol, "not WebSocket"),
            },
        }
    }

    fn finished(&mut self, ctx: &mut Context) {
        // The stream also ends after the meter broke it; then the close is still to be written.
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
