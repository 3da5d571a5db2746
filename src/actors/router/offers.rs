//! What the coordinator is told, and when: changes are damped, and what no event announces is looked at on a timer.

use actix::prelude::*;
use tokio::time::Instant;

use super::JobRouter;
use super::admission::Arrival;
use crate::actors::envelopes::AskLoad;
use crate::core::scheduling::breaker::{Pass, Verdict};
use crate::core::scheduling::debounce::{Damper, Due};
use crate::messages::ids::BackendId;
use crate::messages::wire::{Capabilities, FromAgent, Metadata};
use crate::telemetry::Event;

impl JobRouter {
    /// Tells the coordinator what is on offer, if it does not know yet: at once on a new connection, damped later.
    pub(super) fn announce(&mut self, ctx: &mut Context<Self>) {
        let Some(uplink) = &self.connection else { return };
        let now = Instant::now();
        if !self.settled && now < self.setup.settle_at {
            ctx.run_later(self.setup.settle_at - now, |router, ctx| router.announce(ctx));
            return;
        }
        self.settled = true;
        let usable = |backend: &BackendId| self.fleet.usable(backend, now.into_std());
        let capabilities = Capabilities {
            models: self.catalog.models().filter_map(|model| model.offer_now(usable)).collect(),
            limits: self.setup.limits,
            metadata: Metadata { agent_version: env!("CARGO_PKG_VERSION").to_owned() },
        };
        let capabilities = capabilities.as_agreed(uplink.agreed());
        if self.announced.as_ref() == Some(&capabilities) {
            return;
        }
        if self.announced.is_none() {
            self.damper = Damper::default();
        } else if let Due::At(at) = self.damper.on_change(now.into_std()) {
            return self.wake_by(at, ctx);
        }
        let (generation, models) = (uplink.generation(), capabilities.models.len());
        if uplink.control(&FromAgent::Capabilities(capabilities.clone())).is_ok() {
            self.announced = Some(capabilities);
            self.setup.events.emit(Event::CapabilitiesSent { generation, models });
        }
    }

    /// What a job has shown of its backend. An offer may follow.
    pub(super) fn judge(&mut self, backend: &BackendId, pass: Option<Pass>, verdict: Verdict, ctx: &mut Context<Self>) {
        let Some(pass) = pass else { return };
        let now = Instant::now().into_std();
        let before = self.fleet.usable(backend, now);
        self.fleet.report(backend, pass, verdict, now);
        let after = self.fleet.usable(backend, now);
        if before != after {
            if after == 0 {
                self.setup.events.emit(Event::BreakerOpened { backend: backend.clone() });
            }
            self.announce(ctx);
        }
        // A breaker may have opened where others' work had left nothing usable before.
        if verdict == Verdict::Fault {
            self.plan(ctx);
        }
    }

    /// Sets the timer for what no event will bring: a load to be asked for, the end of a breaker's cool-down.
    pub(super) fn plan(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now().into_std();
        for at in [self.fleet.next_poll(now), self.fleet.next_trial(now)].into_iter().flatten() {
            self.wake_by(at, ctx);
        }
    }

    /// Sees to it that the router looks at everything again by then.
    pub(super) fn wake_by(&mut self, at: std::time::Instant, ctx: &mut Context<Self>) {
        if self.wake.as_ref().is_some_and(|(planned, _)| *planned <= at) {
            return;
        }
        if let Some((_, timer)) = self.wake.take() {
            ctx.cancel_future(timer);
        }
        let wait = at.saturating_duration_since(Instant::now().into_std());
        let timer = ctx.run_later(wait, |router, ctx| {
            router.wake = None;
            router.woken(ctx);
        });
        self.wake = Some((at, timer));
    }

    fn woken(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now().into_std();
        for backend in self.fleet.due(now) {
            self.setup.loads.do_send(AskLoad { backend });
        }
        self.announce(ctx);
        self.serve_waiting(ctx);
        let stranded = self.stranded.iter().map(|stranded| stranded.job.until());
        if let Some(until) = self.waiting.iter().map(Arrival::until).chain(stranded).min() {
            self.wake_by(until.into_std(), ctx);
        }
        self.plan(ctx);
    }
}
