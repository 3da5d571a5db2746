//! Probes one server of a known kind, again and again, and remembers what need not be read each time. Driven by the
//! sources of `configured` and `auto`.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::api::ApiClient;
use super::capability::{self, Capabilities, CapabilityProbe};
use super::kinds::openai::MODELS;
use super::kinds::table;
use super::offer::Offer;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ProbeError};
use crate::messages::endpoint::Endpoints;

/// How long a server may take to report its active requests.
const LOAD: Duration = Duration::from_secs(1);

/// How long a service's list holds: it is long and comes from far away, and its models and prices change by the hour. A
/// rise of a price is noticed by the first probe after that.
const LIST_HOLDS: Duration = Duration::from_secs(5 * 60);

/// One server, seen from one thread.
pub(super) struct Observer {
    kind: BackendKind,
    api: ApiClient,
    /// Which endpoints the server has. A probe that is given up leaves it as it is: a slow server is still there.
    capabilities: RefCell<Capabilities>,
    /// Of a service: what it offered, and when that was read.
    list: RefCell<Option<(Instant, BackendReport)>>,
}

impl Observer {
    /// `presumed`: the endpoints that it is assumed to have until it reports that it lacks them.
    pub(super) fn new(kind: BackendKind, api: ApiClient, presumed: Endpoints) -> Self {
        Self { kind, api, capabilities: RefCell::new(Capabilities::new(presumed)), list: RefCell::default() }
    }

    /// One probe: what the server offers, then which endpoints it has, as far as that is not known. Of a service whose list
    /// still holds, only whether it is there.
    pub(super) async fn probe(&self) -> Result<BackendReport, ProbeError> {
        if let Some(report) = self.listed() {
            self.api.is_there(MODELS).await.inspect_err(|_| self.forget())?;
            return Ok(report);
        }
        let probed = Instant::now();
        let offer = (table::of(self.kind).offer)(&self.api).await;
        let mut offer = offer.inspect_err(|_| self.forget())?;
        let how = table::of(self.kind).probe;
        if !matches!(how, CapabilityProbe::Documented) {
            let unanswered = self.capabilities.borrow_mut().unanswered(&offer);
            let answers = capability::probe(&self.api, how, unanswered).await;
            if !self.capabilities.borrow_mut().record(&answers, &mut offer) {
                return Err(ProbeError::NotReady);
            }
        }
        let Offer { models, slots, active_requests, cloud_models, .. } = offer;
        let report = BackendReport { kind: self.kind, models, slots, active_requests, cloud_models };
        if self.kind.is_service() {
            self.list.replace(Some((probed, report.clone())));
        }
        Ok(report)
    }

    fn listed(&self) -> Option<BackendReport> {
        let list = self.list.borrow();
        list.as_ref().filter(|(probed, _)| probed.elapsed() < LIST_HOLDS).map(|(_, report)| report.clone())
    }

    /// The server was unreachable: what comes back may be another one.
    pub(super) fn forget(&self) {
        self.capabilities.borrow_mut().forget();
        self.list.replace(None);
    }

    /// The active requests of the server.
    pub(super) async fn load(&self) -> Option<u32> {
        let load = table::of(self.kind).load?;
        timeout(LOAD, load(&self.api)).await.ok()?
    }
}
