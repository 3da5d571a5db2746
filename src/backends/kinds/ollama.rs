//! Ollama. The models are those it has on disk, since it loads what is asked for; the context it runs with is known of
//! loaded ones only. What the model was trained for is not it, and is not reported.

use std::collections::HashMap;

use futures_util::future;
use serde::Deserialize;

use super::super::LookError;
use super::super::api::ApiClient;
use super::super::lenient::{list, maybe};
use super::super::offer::Offer;
use super::super::probe::{DOCUMENT, LIST};

const GREETING: &[u8] = b"Ollama is running";

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "version")]
    _version: String,
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
    /// What the model can do, where this version says so.
    #[serde(default, deserialize_with = "maybe")]
    capabilities: Option<Vec<Capability>>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Capability {
    Completion,
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

/// Whether the server greets as Ollama does and has its version. Others imitate its lists, not its greeting.
pub(in crate::backends) async fn answers(api: &ApiClient) -> bool {
    let (root, version) = future::join(api.get("/", DOCUMENT), api.json::<Version>("/api/version", DOCUMENT)).await;
    version.is_ok() && root.is_ok_and(|root| root.status == 200 && root.body.trim_ascii().starts_with(GREETING))
}

pub(in crate::backends) async fn offer(api: &ApiClient) -> Result<Offer, LookError> {
    let loaded = async { Ok(api.json::<Loaded>("/api/ps", LIST).await.unwrap_or_default()) };
    let (tags, loaded) = future::try_join(api.json::<Tags>("/api/tags", LIST), loaded).await?;
    let windows: HashMap<String, Option<u64>> =
        loaded.models.into_iter().map(|model| (model.name, model.context_length)).collect();
    let models = tags.models.into_iter().filter(can_chat).map(|tag| {
        let window = windows.get(&tag.name).copied().flatten();
        (tag.name, window)
    });
    Ok(Offer::new(models, None))
}

fn can_chat(tag: &Tag) -> bool {
    let told = tag.capabilities.as_ref().filter(|told| !told.is_empty());
    told.is_none_or(|told| told.contains(&Capability::Completion))
}
