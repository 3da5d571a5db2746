//! LocalAI. Models of all sorts in one list, which does not show what each is for; the context is in their configuration
//! alone. Where some of them don't generate, the operator names those that do.

use futures_util::future;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::list;
use super::super::offer::{Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai::{MODELS, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::LocalAi,
    usual_port: None,
    other_ports: &[8080],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    // It works an empty request.
    probe: CapabilityProbe::Broken,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// `/system`.
#[derive(Deserialize)]
struct System {
    /// Both must be there; what is in them does not matter.
    #[serde(rename = "backends", deserialize_with = "list")]
    _backends: Vec<IgnoredAny>,
    #[serde(rename = "loaded_models", deserialize_with = "list")]
    _loaded_models: Vec<IgnoredAny>,
}

/// `/version`.
#[derive(Deserialize)]
struct Version {
    version: String,
}

async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    api.json("/system", DOCUMENT).await.map(|_: System| ())
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let version = async { Ok(api.json::<Version>("/version", DOCUMENT).await.ok()) };
    let (models, version) = future::try_join(api.json::<Models>(MODELS, LIST), version).await?;
    Ok(Offer::new(models.entries(Task::Any)).version(version.map(|document| document.version)))
}
