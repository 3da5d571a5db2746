//! SGLang. One model, and a document each for what it is, how it was started and its load.

use futures_util::future;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::abort::Abort;
use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai::{MODELS, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::endpoint::Endpoint;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::SgLang,
    usual_port: Some(30000),
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: Some(|api| Box::pin(load(api))),
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    probe: CapabilityProbe::Empty,
    documented: ALL_OF_OPENAI,
    abort: Some(&ABORT),
};

/// Releases around that of 2026-08 go on generating when the connection closes. A request's id is its own, chosen by the
/// client; as documented by the project, the formats of others have no place for it.
static ABORT: Abort = Abort {
    member: "rid",
    path: "/abort_request",
    endpoints: &[Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings],
};

/// `/get_model_info`; no other kind has it.
#[derive(Deserialize)]
struct ModelInfo {
    /// Whether it generates; else it embeds, or ranks.
    is_generation: bool,
}

/// `/get_server_info`. It holds how the server was started, keys too: nothing else of it is read.
#[derive(Default, Deserialize)]
struct ServerInfo {
    #[serde(default, deserialize_with = "maybe")]
    version: Option<String>,
    #[serde(default, deserialize_with = "maybe")]
    max_running_requests: Option<u64>,
    #[serde(default, deserialize_with = "list")]
    internal_states: Vec<InternalState>,
}

/// One of the server's replicas.
#[derive(Deserialize)]
struct InternalState {
    #[serde(default, deserialize_with = "maybe")]
    effective_max_running_requests_per_dp: Option<u64>,
}

/// `/get_load`: one entry a replica.
#[derive(Deserialize)]
#[serde(transparent)]
struct Loads {
    #[serde(deserialize_with = "list")]
    replicas: Vec<Load>,
}

#[derive(Deserialize)]
struct Load {
    /// Those that run and those that wait.
    num_reqs: u32,
}

async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    model_info(api).await.map(drop)
}

async fn model_info(api: &ApiClient) -> Result<ModelInfo, ProbeError> {
    renamed(api, "/get_model_info", "/model_info").await
}

/// A document that is to lose the `get_` before its name.
async fn renamed<T: DeserializeOwned>(api: &ApiClient, now: &str, later: &str) -> Result<T, ProbeError> {
    match api.json(now, DOCUMENT).await {
        Err(ProbeError::Unexpected(_)) => api.json(later, DOCUMENT).await,
        tasks => tasks,
    }
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let model = async { Ok(model_info(api).await.ok()) };
    let server = async { Ok(renamed::<ServerInfo>(api, "/get_server_info", "/server_info").await.unwrap_or_default()) };
    let active = async { Ok(load(api).await) };
    let (models, model, server, active) =
        future::try_join4(api.json::<Models>(MODELS, LIST), model, server, active).await?;
    let task = match model {
        Some(ModelInfo { is_generation: true }) => Task::Generate,
        Some(ModelInfo { is_generation: false }) => Task::Embed,
        None => Task::Any,
    };
    let of_replicas = server.internal_states.iter().map(|state| state.effective_max_running_requests_per_dp);
    let of_replicas = of_replicas.reduce(|sum, slots| Some(sum?.saturating_add(slots?))).flatten();
    let slots = of_replicas.or(server.max_running_requests);
    Ok(Offer::new(models.entries(task)).slots(slots).active_requests(active).version(server.version))
}

/// From the document where there is one, else from the metrics, which are off by default.
async fn load(api: &ApiClient) -> Option<u32> {
    match api.json::<Loads>("/get_load", DOCUMENT).await {
        Ok(Loads { replicas }) if !replicas.is_empty() => {
            Some(replicas.iter().fold(0, |sum, replica| u32::saturating_add(sum, replica.num_reqs)))
        }
        _ => api.gauges(&["sglang:num_running_reqs", "sglang:num_queue_reqs"]).await,
    }
}
