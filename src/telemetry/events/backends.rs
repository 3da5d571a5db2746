//! Events of the inference servers.

use std::time::SystemTime;

use log::Level;

use super::causes::BackendDownCause;
use super::describe::{Describe, EventKind};
use crate::messages::backend::BackendKind;
use crate::messages::ids::{BackendId, ModelId};
use crate::messages::jobs::Blame;
use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;
use crate::telemetry::problems::Occurrence;

const TARGET: &str = "outpost::backends";
/// The most models that a log line names.
const NAMED: usize = 8;

/// A backend is healthy, or what it offers changed.
#[derive(Clone, Debug)]
pub struct BackendUp {
    /// Its name.
    pub backend: BackendId,
    /// Its kind.
    pub kind: BackendKind,
    /// Its models.
    pub models: Vec<ModelId>,
}

impl Describe for BackendUp {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "backend up")
    }

    fn fields(&self) -> Fields {
        let mut names: Vec<&str> = self.models.iter().take(NAMED).map(ModelId::as_str).collect();
        if self.models.len() > NAMED {
            names.push("…");
        }
        Fields::new()
            .text("backend", &self.backend)
            .text("kind", self.kind)
            .number("models", self.models.len())
            .text("names", names.join(", "))
    }

    fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        let state = snapshot.backends.entry(self.backend.to_string()).or_default();
        state.probed(true, at);
        state.kind = Some(self.kind.to_string());
        state.models.clone_from(&self.models);
        state.cause = None;
    }
}

/// A backend lists models that it forwards to a service. They are not offered.
#[derive(Clone, Debug)]
pub struct CloudModelsNotOffered {
    /// Its name.
    pub backend: BackendId,
    /// How many.
    pub models: usize,
}

impl Describe for CloudModelsNotOffered {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "cloud models not offered")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("backend", &self.backend).number("models", self.models)
    }
}

/// A backend is not healthy any more, or was not at the first probe.
#[derive(Clone, Debug)]
pub struct BackendDown {
    /// Its name, or the address that was probed.
    pub backend: String,
    /// Why.
    pub cause: BackendDownCause,
}

impl Describe for BackendDown {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "backend down")
    }

    fn fields(&self) -> Fields {
        Fields::new().text("backend", &self.backend).text("cause", &self.cause)
    }

    fn problem(&self) -> Option<Occurrence> {
        Some(Occurrence {
            kind: format!("server {} down", self.backend),
            blame: Blame::Backend.as_str(),
            details: Some(self.cause.to_string()),
            advice: "Start the server, or correct OUTPOST_BACKENDS.",
        })
    }

    fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        let state = snapshot.backends.entry(self.backend.clone()).or_default();
        state.probed(false, at);
        state.models.clear();
        state.cause = Some(self.cause.to_string());
    }
}

/// Every address was probed, and no model can be offered.
#[derive(Clone, Debug)]
pub struct NothingOnOffer {
    /// Addresses probed.
    pub probed: usize,
}

impl Describe for NothingOnOffer {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "no model to offer: start an inference server, or set OUTPOST_BACKENDS")
    }

    fn fields(&self) -> Fields {
        Fields::new().number("probed", self.probed)
    }
}

/// A backend failed too many jobs in a row: its circuit breaker opened.
#[derive(Clone, Debug)]
pub struct BreakerOpened {
    /// The backend.
    pub backend: BackendId,
}

impl Describe for BreakerOpened {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "circuit breaker opened")
    }

    fn problem(&self) -> Option<Occurrence> {
        Some(Occurrence {
            kind: format!("server {} failed jobs in a row", self.backend),
            blame: Blame::Backend.as_str(),
            details: None,
            advice: "It gets no jobs for some seconds, then one as a trial. See the server's own log.",
        })
    }

    fn fields(&self) -> Fields {
        Fields::new().text("backend", &self.backend)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.backends.entry(self.backend.to_string()).or_default().breaker_opened += 1;
    }
}
