//! vLLM. Its list of models has the context; how many requests it batches is in none of its documents.

use serde::Deserialize;

use super::super::LookError;
use super::super::api::ApiClient;
use super::super::offer::Offer;
use super::super::probe::{DOCUMENT, LIST};
use super::openai::{MODELS, Models};

/// The document that every vLLM has, and that needs no key.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "version")]
    _version: String,
}

/// Whether the server has vLLM's own document. Others have one alike: the list of models must agree.
pub(in crate::backends) async fn answers(api: &ApiClient) -> bool {
    api.json::<Version>("/version", DOCUMENT).await.is_ok()
}

pub(in crate::backends) async fn offer(api: &ApiClient) -> Result<Offer, LookError> {
    let models: Models = api.json(MODELS, LIST).await?;
    Ok(Offer::new(models.data.into_iter().map(|model| (model.id, model.max_model_len)), None))
}
