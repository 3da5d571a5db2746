//! Discovery: probes every place where a backend may be, each with a deadline of its own, and publishes the catalog of the
//! probe results.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, timeout};

use super::guard::Guard;
use super::messages::CatalogChanged;
use crate::backends::{BackendFactory, ProbeResult, Source};
use crate::core::scheduling::catalog::{BackendPolicy, Catalog, Seen, Terms};
use crate::core::scheduling::pacing::{GAP, Pacing};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::ids::BackendId;
use crate::messages::lifecycle::Stop;
use crate::messages::load::{AskLoad, LoadSeen, RunDiscovery};
use crate::telemetry::Events;
use crate::telemetry::events::{BackendDown, BackendDownCause, BackendUp, CloudModelsNotOffered, NothingOnOffer};

/// The time between probes of a configured backend that is not available.
const RETRY: Duration = Duration::from_secs(5);

/// The operator's settings for a backend of this name and kind.
pub(crate) type PolicyOf = Rc<dyn Fn(&BackendId, BackendKind) -> BackendPolicy>;

/// What discovery is started with.
pub(super) struct DiscoverySetup {
    pub(super) sources: Rc<[Box<dyn Source>]>,
    pub(super) policy: PolicyOf,
    pub(super) terms: Terms,
    pub(super) interval: Duration,
    pub(super) events: Events,
    pub(super) supervisor: Recipient<CatalogChanged>,
    pub(super) loads: Recipient<LoadSeen>,
}

/// Probes all backends at the same time.
pub(super) struct DiscoveryActor {
    setup: DiscoverySetup,
    places: Vec<Place>,
    published: Option<CatalogChanged>,
    _guard: Guard,
}

/// What is known of one source.
struct Place {
    /// When it may be probed.
    pacing: Pacing,
    /// The last probe result; `None` before the first.
    last: Option<Result<ProbeResult, ProbeError>>,
    /// The last probe of a healthy backend timed out: it may be busy, so it is probed once more.
    late: bool,
    /// The next probe, and its timer.
    next: Option<(Instant, SpawnHandle)>,
}

impl Place {
    fn healthy(&self) -> Option<&ProbeResult> {
        self.last.as_ref()?.as_ref().ok()
    }
}

impl DiscoveryActor {
    pub(super) fn new(setup: DiscoverySetup, guard: Guard) -> Self {
        let place = |_| Place { pacing: Pacing::new(GAP.min(setup.interval)), last: None, late: false, next: None };
        let places = setup.sources.iter().map(place).collect();
        Self { setup, places, published: None, _guard: guard }
    }

    /// Probes a place as soon as it may be probed. Calls that come before that, or while a probe runs, get one probe together.
    fn call(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(place) = self.places.get_mut(index) else { return };
        let now = Instant::now();
        match place.pacing.call(now.into_std()).map(Instant::from_std) {
            Some(at) if at <= now => self.probe(index, ctx),
            Some(at) => self.schedule(index, at, ctx),
            None => {}
        }
    }

    /// Calls for a probe by then.
    fn schedule(&mut self, index: usize, at: Instant, ctx: &mut Context<Self>) {
        let Some(place) = self.places.get_mut(index) else { return };
        if place.next.as_ref().is_some_and(|(planned, _)| *planned <= at) {
            return;
        }
        if let Some((_, timer)) = place.next.take() {
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(at.saturating_duration_since(Instant::now()), move |actor, ctx| {
            if let Some(place) = actor.places.get_mut(index) {
                place.next = None;
            }
            actor.call(index, ctx);
        });
        place.next = Some((at, timer));
    }

    fn probe(&mut self, index: usize, ctx: &mut Context<Self>) {
        let (Some(place), Some(source)) = (self.places.get_mut(index), self.setup.sources.get(index)) else { return };
        if let Some((_, timer)) = place.next.take() {
            ctx.cancel_future(timer);
        }
        let asked = Instant::now();
        place.pacing.start(asked.into_std());
        let probe = timeout(source.timeout(), source.probe()).into_actor(self);
        ctx.spawn(probe.map(move |result, actor, ctx| {
            actor.probed(index, asked, result.unwrap_or(Err(ProbeError::TimedOut)), ctx);
        }));
    }

    fn probed(
        &mut self,
        index: usize,
        asked: Instant,
        result: Result<ProbeResult, ProbeError>,
        ctx: &mut Context<Self>,
    ) {
        let (Some(place), Some(source)) = (self.places.get_mut(index), self.setup.sources.get(index)) else { return };
        let now = Instant::now();
        let timed_out = matches!(result, Err(ProbeError::TimedOut));
        let called = place.pacing.end(!timed_out, now.into_std()).map(Instant::from_std);
        if timed_out && place.healthy().is_some() && !place.late {
            place.late = true;
            return self.call(index, ctx);
        }
        place.late = false;
        report(&self.setup.events, source.as_ref(), place.last.as_ref(), &result);
        let missed = result.is_err() && (source.is_configured() || place.healthy().is_some());
        let wait = if missed { RETRY.min(self.setup.interval) } else { self.setup.interval };
        let load =
            result.as_ref().ok().and_then(|seen| Some((seen.factory.id().clone(), seen.report.active_requests?)));
        place.last = Some(result);
        let next = now + wait;
        self.schedule(index, called.map_or(next, |called| called.min(next)), ctx);
        self.publish();
        if let Some((backend, active_requests)) = load {
            self.setup.loads.do_send(LoadSeen { backend, active_requests, asked: asked.into_std() });
        }
    }

    /// Asks for a load that was wanted `then`, as soon as the place may be asked. A probe that starts before that reports
    /// the load too.
    fn poll(&mut self, backend: BackendId, then: Instant, ctx: &mut Context<Self>) {
        let Some(index) = self.place_of(&backend) else { return };
        let (Some(place), Some(source)) = (self.places.get_mut(index), self.setup.sources.get(index)) else { return };
        if place.pacing.has_probed_since(then.into_std()) {
            return;
        }
        let asked = Instant::now();
        if let Err(at) = place.pacing.poll(asked.into_std()) {
            let wait = Instant::from_std(at).saturating_duration_since(asked);
            ctx.run_later(wait, move |actor, ctx| actor.poll(backend, then, ctx));
            return;
        }
        ctx.spawn(source.load().into_actor(self).map(move |active_requests, actor, _| {
            if let Some(active_requests) = active_requests {
                actor.setup.loads.do_send(LoadSeen { backend, active_requests, asked: asked.into_std() });
            }
        }));
    }

    /// The place at which a backend was found.
    fn place_of(&self, backend: &BackendId) -> Option<usize> {
        self.places.iter().position(|place| place.healthy().is_some_and(|seen| seen.factory.id() == backend))
    }

    /// Publishes the catalog if it changed, servers that took others' places even where they offer the same, and the moment
    /// when every place was probed once.
    fn publish(&mut self) {
        let healthy = || self.places.iter().filter_map(Place::healthy);
        let seen: BTreeMap<BackendId, Seen> = healthy()
            .map(|found| {
                let id = found.factory.id().clone();
                let policy = (self.setup.policy)(&id, found.report.kind);
                (id, Seen { report: found.report.clone(), policy })
            })
            .collect();
        let catalog = Arc::new(Catalog::build(&seen, &self.setup.terms));
        let complete = self.places.iter().all(|place| place.last.is_some());
        let backends: Vec<_> = healthy().map(|found| Arc::clone(&found.factory)).collect();
        let last = self.published.as_ref();
        let same_offer = last.is_some_and(|last| last.catalog == catalog && last.complete == complete);
        if same_offer && last.is_some_and(|last| same_servers(&last.backends, &backends)) {
            return;
        }
        if !same_offer && complete && catalog.is_empty() {
            self.setup.events.emit(NothingOnOffer { probed: self.places.len() });
        }
        let changed = CatalogChanged { catalog, backends, complete };
        self.published = Some(changed.clone());
        self.setup.supervisor.do_send(changed);
    }
}

/// Whether these are the very same, in the same order.
fn same_servers(before: &[Arc<dyn BackendFactory>], now: &[Arc<dyn BackendFactory>]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(before, now)| Arc::ptr_eq(before, now))
}

/// Emits events for the changes of a place between two probes.
fn report(
    events: &Events,
    source: &dyn Source,
    last: Option<&Result<ProbeResult, ProbeError>>,
    now: &Result<ProbeResult, ProbeError>,
) {
    match (last, now) {
        (Some(Ok(before)), Ok(now)) if before.report.same_offer(&now.report) => {}
        (last, Ok(now)) => {
            if let Some(Ok(before)) = last
                && before.factory.id() != now.factory.id()
            {
                let cause = BackendDownCause::ReplacedBy(now.factory.id().clone());
                events.emit(BackendDown { backend: before.factory.id().to_string(), cause });
            }
            let models = now.report.models.iter().map(|model| model.id.clone()).collect();
            let (backend, kind) = (now.factory.id().clone(), now.report.kind);
            events.emit(BackendUp { backend, kind, models });
        }
        (Some(Err(before)), Err(now)) if before == now => {}
        (Some(Ok(before)), Err(error)) => {
            let backend = before.factory.id().to_string();
            events.emit(BackendDown { backend, cause: error.clone().into() });
        }
        // On most ports that `auto` probes no server listens.
        (None | Some(Err(_)), Err(error)) if source.is_configured() => {
            events.emit(BackendDown { backend: source.name().to_owned(), cause: error.clone().into() });
        }
        (None | Some(Err(_)), Err(_)) => {}
    }
    let cloud_models = |result: Option<&Result<ProbeResult, ProbeError>>| {
        result.and_then(|result| result.as_ref().ok()).map_or(0, |seen| seen.report.cloud_models)
    };
    let models = cloud_models(Some(now));
    if let Ok(now) = now
        && models > 0
        && models != cloud_models(last)
    {
        events.emit(CloudModelsNotOffered { backend: now.factory.id().clone(), models });
    }
}

impl Actor for DiscoveryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.publish();
        for index in 0..self.places.len() {
            self.call(index, ctx);
        }
    }
}

impl Handler<RunDiscovery> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, run: RunDiscovery, ctx: &mut Self::Context) {
        if let Some(index) = self.place_of(&run.backend) {
            self.call(index, ctx);
        }
    }
}

impl Handler<AskLoad> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, ask: AskLoad, ctx: &mut Self::Context) {
        self.poll(ask.backend, Instant::now(), ctx);
    }
}

impl Handler<Stop> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
