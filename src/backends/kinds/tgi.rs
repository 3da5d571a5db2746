//! Hugging Face's text-generation-inference. One model, whose name in a request does not matter.

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::maybe;
use super::super::offer::{Entry, Offer, Task, without_path};
use super::super::probe::DOCUMENT;
use super::kind::{GENERATION, Identification, Kind};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::Tgi,
    // Of its launcher, and of its container.
    usual_port: Some(3000),
    other_ports: &[8080],
    offer: |api| Box::pin(offer(api)),
    load: Some(|api| Box::pin(load(api))),
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    probe: CapabilityProbe::Empty,
    documented: GENERATION,
    abort: None,
};

/// `/info`.
#[derive(Deserialize)]
struct Info {
    model_id: String,
    /// Of prompt and answer together. The server for embeddings by the same house has a document alike, without it.
    max_total_tokens: u64,
    /// Past this it refuses.
    #[serde(default, deserialize_with = "maybe")]
    max_concurrent_requests: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    version: Option<String>,
}

async fn info(api: &ApiClient) -> Result<Info, ProbeError> {
    api.json("/info", DOCUMENT).await
}

async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    info(api).await.map(drop)
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let active = async { Ok(load(api).await) };
    let (info, active) = future::try_join(info(api), active).await?;
    let entry = Entry::new(without_path(info.model_id), Some(info.max_total_tokens), Task::Generate);
    Ok(Offer::new([entry]).slots(info.max_concurrent_requests).active_requests(active).version(info.version))
}

/// Those in the batch and those that wait.
async fn load(api: &ApiClient) -> Option<u32> {
    api.gauges(&["tgi_batch_current_size", "tgi_queue_size"]).await
}
