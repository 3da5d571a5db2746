//! Ollama. The models are those it has on disk, since it loads what is requested; the context it runs with is known of
//! loaded ones only. What the model was trained for is not it, and is not reported.
//!
//! Its list also names cloud models, which it forwards to a service on the account of its owner. They are counted and
//! not offered: their prompts would leave this host, at the price and the rank of a local model.

use std::collections::HashMap;

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::Ollama,
    usual_port: Some(11434),
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    // It answers an empty request for a completion as if it did not have the path.
    probe: CapabilityProbe::Broken,
    documented: ALL_OF_OPENAI,
    abort: None,
};

const GREETING: &[u8] = b"Ollama is running";
const VERSION: &str = "/api/version";

/// `/api/version`.
#[derive(Deserialize)]
struct Version {
    version: String,
}

/// `/api/tags`.
#[derive(Deserialize)]
struct Tags {
    #[serde(deserialize_with = "list")]
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    /// What the model can do, where this version reports it.
    #[serde(default, deserialize_with = "maybe")]
    capabilities: Option<Vec<Capability>>,
    #[serde(default, deserialize_with = "maybe")]
    details: Option<Details>,
    /// Of a cloud model: what the service calls it.
    #[serde(default, deserialize_with = "maybe")]
    remote_model: Option<String>,
    /// Of a cloud model: the service.
    #[serde(default, deserialize_with = "maybe")]
    remote_host: Option<String>,
}

impl Tag {
    fn is_cloud_model(&self) -> bool {
        [&self.remote_model, &self.remote_host].into_iter().flatten().any(|remote| !remote.is_empty())
    }
}

#[derive(Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "maybe")]
    family: Option<String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Capability {
    Completion,
    Embedding,
    #[serde(other)]
    Other,
}

/// `/api/ps`.
#[derive(Default, Deserialize)]
struct Loaded {
    #[serde(deserialize_with = "list")]
    models: Vec<LoadedModel>,
}

#[derive(Deserialize)]
struct LoadedModel {
    name: String,
    #[serde(default, deserialize_with = "maybe")]
    context_length: Option<u64>,
}

/// Whether the server greets as Ollama does and has its version. Others imitate its lists; those that imitate its greeting
/// too have routes of their own, which are requested before.
async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    let (root, _) = future::try_join(api.get("/", DOCUMENT), api.json::<Version>(VERSION, DOCUMENT)).await?;
    let greets = root.status == 200 && root.body.trim_ascii().starts_with(GREETING);
    if greets { Ok(()) } else { Err(ProbeError::Unexpected("another greeting")) }
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let loaded = async { Ok(api.json::<Loaded>("/api/ps", LIST).await.unwrap_or_default()) };
    let version = async { Ok(api.json::<Version>(VERSION, DOCUMENT).await.ok()) };
    let (tags, loaded, version) = future::try_join3(api.json::<Tags>("/api/tags", LIST), loaded, version).await?;
    let windows: HashMap<String, Option<u64>> =
        loaded.models.into_iter().map(|model| (model.name, model.context_length)).collect();
    let (cloud, local): (Vec<_>, Vec<_>) = tags.models.into_iter().partition(Tag::is_cloud_model);
    let entries = local.into_iter().filter_map(|tag| {
        let task = task(&tag)?;
        let window = windows.get(&tag.name).copied().flatten();
        Some(Entry::new(tag.name, window, task))
    });
    Ok(Offer::new(entries).version(version.map(|document| document.version)).cloud_models(cloud.len()))
}

/// What a model is for; `None` where it is neither. Versions that do not report it name its family: those of BERT embed.
fn task(tag: &Tag) -> Option<Task> {
    let Some(reported) = tag.capabilities.as_ref().filter(|list| !list.is_empty()) else {
        let family = tag.details.as_ref().and_then(|details| details.family.as_deref());
        let embeds = family.is_some_and(|family| family.contains("bert"));
        return Some(if embeds { Task::Embed } else { Task::Generate });
    };
    match (reported.contains(&Capability::Completion), reported.contains(&Capability::Embedding)) {
        (true, true) => Some(Task::Any),
        (true, false) => Some(Task::Generate),
        (false, true) => Some(Task::Embed),
        (false, false) => None,
    }
}
