//! The end of the handshake: checks an `auth_response`, and adds the agent to the roster or closes the connection.

use std::rc::Rc;
use std::time::SystemTime;

use actix::{ActorContext, AsyncContext};
use tokio::time::Instant;

use super::{Admitted, CloseCode, Context, Session, Stage, send};
use crate::coordinator::agents::handshake::{AdmissionReason, AgentKey, Nonce};
use crate::coordinator::agents::link::{CloseReason, SessionLink};
use crate::coordinator::agents::session_lifecycle::OpenedSession;
use crate::coordinator::events::{AgentConnected, AgentEnrolled, AgentRefused, AgentReplaced};
use crate::coordinator::fleet::roster::AgentInfo;
use crate::messages::wire::{AuthOk, AuthResponse, Extensions, FromCoordinator};

impl Session {
    /// Checks the response to a challenge with this nonce.
    pub(super) fn authenticate(&mut self, ctx: &mut Context, nonce: &Nonce, response: &AuthResponse) {
        if self.state.is_stopping() {
            return self.close(ctx, CloseCode::Away, "drain:deploy");
        }
        // Extensions that the coordinator did not offer are not agreed on.
        let agreed = response.extensions.common(self.state.extensions);
        let admitted = self.state.admission.admit(nonce, response, agreed, self.peer.network(), Instant::now());
        let (key, reason) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                let version = Some(response.agent_version.clone());
                self.state.events.emit(&AgentRefused { peer: self.peer, version, cause: error.into() });
                send(ctx, &FromCoordinator::AuthFailed { reason: Some(error.to_string()) });
                return self.close(ctx, CloseCode::Policy, "auth failed");
            }
        };
        self.welcome(ctx, key, reason, agreed, response);
    }

    /// Opens the session of an agent that has proved its key, replaces an earlier connection of it, and sends `auth_ok`.
    fn welcome(
        &mut self,
        ctx: &mut Context,
        key: AgentKey,
        reason: AdmissionReason,
        agreed: Extensions,
        response: &AuthResponse,
    ) {
        let Some(provider) = key.provider_id() else { return ctx.stop() };
        let since = SystemTime::now();
        let version = response.agent_version.clone();
        let agent_info = AgentInfo { key, provider: provider.clone(), version, extensions: agreed, since, link: () };
        let link = |jobs| SessionLink::new(ctx.address().recipient(), self.unsent.clone(), jobs);
        let opened = self.state.open_session(agent_info, response.resume.as_ref(), link);
        let OpenedSession { id, jobs, name, resumed, missing, older, jobs_lost } = opened;
        match older {
            Some(older) if resumed.is_some() => older.close(CloseReason::Resumed),
            Some(older) => {
                self.state.events.emit(&AgentReplaced { provider: provider.clone(), jobs_lost });
                older.close(CloseReason::Replaced);
            }
            None => {}
        }
        self.state.events.emit(&AgentConnected {
            provider: provider.clone(),
            peer: self.peer,
            version: response.agent_version.clone(),
            reason,
            extensions: agreed,
        });
        if reason == AdmissionReason::Code {
            self.state.events.emit(&AgentEnrolled { provider: provider.clone(), key });
        }
        self.meter.max_frame.set(self.state.config.max_agent_message);
        if let Some(limit) = &self.write_limit {
            limit.set(self.state.config.agent_silence);
        }
        let is_resumed = resumed.is_some();
        let auth_ok = AuthOk {
            provider_id: Some(provider.as_str().into()),
            resume_window: name.is_some().then_some(self.state.config.resume_window),
            session: name,
            resumed: is_resumed,
            jobs: resumed,
        };
        send(ctx, &FromCoordinator::AuthOk(auth_ok));
        self.stage = Stage::Admitted(Rc::new(Admitted { id, key, provider, agreed, jobs }));
        self.permit = None;
        self.missing = missing;
        if is_resumed {
            self.acknowledge_again(ctx);
        }
    }
}
