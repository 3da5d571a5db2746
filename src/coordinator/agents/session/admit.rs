//! The end of the handshake: checks an `auth_response`, and adds the agent to the roster or closes the connection.

use std::time::SystemTime;

use actix::{ActorContext, AsyncContext};
use tokio::time::Instant;

use super::{CloseCode, Context, Session, Stage, send};
use crate::coordinator::agents::handshake::{AdmissionReason, Nonce};
use crate::coordinator::agents::link::{CloseReason, Link};
use crate::coordinator::fleet::roster::AgentInfo;
use crate::messages::untrusted::Untrusted;
use crate::messages::wire::{AuthResponse, FromCoordinator};

impl Session {
    pub(super) fn authenticate(&mut self, ctx: &mut Context, nonce: &Nonce, answer: &AuthResponse) {
        if self.state.is_stopping() {
            return self.close(ctx, CloseCode::Away, "drain:deploy");
        }
        let admitted = self.state.admission.admit(nonce, answer, self.peer.network(), Instant::now());
        let (key, reason) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                if self.is_logged("agent refused") {
                    log::warn!(
                        "agent refused peer={} version=\"{}\" cause=\"{refusal}\"",
                        self.peer,
                        Untrusted(&answer.agent_version)
                    );
                }
                send(ctx, &FromCoordinator::AuthFailed { reason: Some(refusal.to_string()) });
                return self.close(ctx, CloseCode::Policy, "auth failed");
            }
        };
        let Some(provider) = key.provider_id() else { return ctx.stop() };
        let link = Link::new(ctx.address().recipient(), self.unsent.clone());
        let since = SystemTime::now();
        // Extensions that the coordinator did not offer are not agreed on.
        let agreed = answer.extensions.common(self.state.config.extensions);
        let version = answer.agent_version.clone();
        let agent_info = AgentInfo { key, provider: provider.clone(), version, extensions: agreed, since, link };
        let (id, replaced) = self.state.roster().join(agent_info);
        if let Some(older) = replaced {
            if self.is_logged("agent replaced") {
                log::warn!("agent replaced provider={provider}: a newer connection has the same key");
            }
            older.close(CloseReason::Replaced);
        }
        if self.is_logged("agent connected") {
            log::info!(
                "agent connected provider={provider} peer={} version=\"{}\" reason={reason:?} extensions={agreed}",
                self.peer,
                Untrusted(&answer.agent_version)
            );
        }
        if reason == AdmissionReason::Code && self.is_logged("agent enrolled") {
            log::info!(
                "agent enrolled provider={provider} pubkey={}: add the key to OUTPOST_COORDINATOR_AGENT_KEYS to know it \
                 after a restart",
                key.to_base64()
            );
        }
        self.meter.max_frame.set(self.state.config.max_agent_message);
        send(ctx, &FromCoordinator::AuthOk { provider_id: Some(provider.as_str().into()) });
        self.stage = Stage::Steady { id, provider, agreed };
        self.place = None;
    }
}
