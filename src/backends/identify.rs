//! Tells what kind of server answers at a place, by its routes and headers: ports are shared by many kinds and mean
//! nothing. Asks without a key, so that none is ever shown to a stranger. Driven by `auto`.

use futures_util::future;

use super::LookError;
use super::api::ApiClient;
use super::kinds::openai::{MODELS, Models};
use super::kinds::{llamacpp, lmstudio, ollama, vllm};
use super::probe::{Answer, LIST};
use crate::messages::backend::BackendKind;

/// The header `Server` of this program's own coordinator, which is never a backend.
const COORDINATOR: &str = "outpost-coordinator";

/// The kind of server. `last` is what it was before: then only that kind's own signs are looked for first, since some
/// servers log every path that they don't know as an error.
pub(super) async fn identify(api: &ApiClient, last: Option<BackendKind>) -> Result<BackendKind, LookError> {
    let same = match last {
        Some(BackendKind::Ollama) => ollama::answers(api).await,
        Some(BackendKind::LmStudio) => lmstudio::answers(api).await,
        Some(kind @ (BackendKind::LlamaCpp | BackendKind::Vllm)) => {
            let (models, has_version) = future::join(api.get(MODELS, LIST), vllm::answers(api)).await;
            models.and_then(|models| kind_of(&models, has_version)) == Ok(kind)
        }
        // What it was is what nothing else was: the others may be there now.
        Some(BackendKind::OpenAi) | None => false,
    };
    match last {
        Some(kind) if same => Ok(kind),
        _ => identify_stranger(api).await,
    }
}

async fn identify_stranger(api: &ApiClient) -> Result<BackendKind, LookError> {
    let (models, has_version, is_ollama, is_lmstudio) =
        future::join4(api.get(MODELS, LIST), vllm::answers(api), ollama::answers(api), lmstudio::answers(api)).await;
    if is_ollama {
        return Ok(BackendKind::Ollama);
    }
    if is_lmstudio {
        return Ok(BackendKind::LmStudio);
    }
    kind_of(&models?, has_version)
}

/// The kind, by the answer to a request for the OpenAI-style list of models.
fn kind_of(models: &Answer, has_version: bool) -> Result<BackendKind, LookError> {
    if models.server.starts_with(COORDINATOR) {
        return Err(LookError::Unexpected("a coordinator"));
    }
    // Its other answers carry the header too: a wrong key, or a model that is being loaded.
    if models.server.starts_with(llamacpp::SERVER) {
        return Ok(BackendKind::LlamaCpp);
    }
    match (models.status, has_version) {
        // vLLM guards its list by the key and its version not.
        (401, true) => return Ok(BackendKind::Vllm),
        // No server of models: some desktop's service.
        (403, _) => return Err(LookError::Unexpected("an error status")),
        _ => {}
    }
    let list: Models = models.json()?;
    let owned_by = |owner| list.data.iter().any(|model| model.owned_by.as_deref() == Some(owner));
    Ok(if owned_by(llamacpp::OWNER) {
        BackendKind::LlamaCpp
    } else if has_version && owned_by("vllm") {
        BackendKind::Vllm
    } else {
        BackendKind::OpenAi
    })
}
