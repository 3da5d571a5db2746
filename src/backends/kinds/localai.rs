//! LocalAI. Models of all sorts in one list, which does not say what each is for; the context is in their configuration
//! alone. Where some of them don't generate, the operator names those that do.

use futures_util::future;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::LookError;
use super::super::api::ApiClient;
use super::super::lenient::list;
use super::super::offer::{Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::openai::{MODELS, Models};

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

pub(in crate::backends) async fn answers(api: &ApiClient) -> Result<(), LookError> {
    api.json("/system", DOCUMENT).await.map(|_: System| ())
}

pub(in crate::backends) async fn offer(api: &ApiClient) -> Result<Offer, LookError> {
    let version = async { Ok(api.json::<Version>("/version", DOCUMENT).await.ok()) };
    let (models, version) = future::try_join(api.json::<Models>(MODELS, LIST), version).await?;
    Ok(Offer::new(models.entries(Task::Any)).version(version.map(|told| told.version)))
}
