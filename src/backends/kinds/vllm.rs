//! vLLM. Its list of models has the context; how many requests it batches is in none of its documents, how many it works
//! is in its metrics. Recent versions have the routes of the model's task only, which the probe of the endpoints shows.

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai::{MODELS, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::Vllm,
    usual_port: Some(8000),
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: Some(|api| Box::pin(load(api))),
    identification: Identification::RouteAndOwner { route: |api| Box::pin(identify(api)), owner: "vllm" },
    probe: CapabilityProbe::Empty,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// The document that every vLLM has, and that needs no key.
#[derive(Deserialize)]
struct Version {
    version: String,
}

/// Whether the server has vLLM's own document. Others have one alike: the list of models must agree.
async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    version(api).await.map(drop)
}

async fn version(api: &ApiClient) -> Result<String, ProbeError> {
    api.json("/version", DOCUMENT).await.map(|Version { version }| version)
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let version = async { Ok(version(api).await.ok()) };
    let active = async { Ok(load(api).await) };
    let (models, version, active) = future::try_join3(api.json::<Models>(MODELS, LIST), version, active).await?;
    let entries = models.data.into_iter().map(|model| Entry::new(model.id, model.max_model_len, Task::Any));
    Ok(Offer::new(entries).active_requests(active).version(version))
}

/// Those that run and those that wait, over all engines.
async fn load(api: &ApiClient) -> Option<u32> {
    api.gauges(&["vllm:num_requests_running", "vllm:num_requests_waiting"]).await
}
