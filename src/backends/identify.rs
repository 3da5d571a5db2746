//! Tells what kind of server answers at a place, by its routes and headers: ports are shared by many kinds and mean
//! nothing. Asks without a key, so that none is ever shown to a stranger. Driven by `auto`.
//!
//! The list of models comes first: what has none, or shows by a header what it is, is asked nothing else. Then the routes
//! by which kinds are told from each other are asked for at once.

use std::time::Duration;

use futures_util::future;
use tokio::time::timeout;

use super::LookError;
use super::api::ApiClient;
use super::kinds::openai::{MODELS, Models};
use super::kinds::{each, llamacpp, vllm};
use super::probe::LIST;
use crate::messages::backend::BackendKind;

/// The header `Server` of this program's own coordinator, which is never a backend.
const COORDINATOR: &str = "outpost-coordinator";

/// How long the list of models may take.
const FIRST: Duration = Duration::from_millis(900);
/// How long the other signs may take. Both together leave time for the look that follows.
const SIGNS: Duration = Duration::from_millis(500);

/// The kinds with routes of their own. Each comes before those whose routes it imitates: KoboldCpp, LocalAI and SGLang
/// imitate Ollama, the last down to its greeting.
const WITH_ROUTES: [BackendKind; 9] = [
    BackendKind::KoboldCpp,
    BackendKind::TabbyApi,
    BackendKind::LiteLlm,
    BackendKind::LocalAi,
    BackendKind::SgLang,
    BackendKind::Tgi,
    BackendKind::Ollama,
    BackendKind::LmStudio,
    BackendKind::Mlx,
];

/// The kind of server. `last` is what it was before: then only that kind's own signs are looked for first, since some
/// servers log every path that they don't know as an error. One that is too busy to show them is not taken for another.
pub(super) async fn identify(api: &ApiClient, last: Option<BackendKind>) -> Result<BackendKind, LookError> {
    if let Some(kind) = last.filter(|kind| WITH_ROUTES.contains(kind)) {
        match sign(kind, api).await {
            Sign::Shown => return Ok(kind),
            Sign::Silent => return Err(LookError::TimedOut),
            Sign::Missing => {}
        }
    }
    let models = timeout(FIRST, api.get(MODELS, LIST)).await.unwrap_or(Err(LookError::TimedOut))?;
    if models.server.starts_with(COORDINATOR) {
        return Err(LookError::Unexpected("a coordinator"));
    }
    // Its other answers carry the header too: a wrong key, or a model that is being loaded.
    if models.server.starts_with(llamacpp::SERVER) {
        return Ok(BackendKind::LlamaCpp);
    }
    match models.status {
        // Without its list, a server is told by the routes that it does not lock.
        401 => match by_routes(api, last, true).await? {
            Some(kind) => Ok(kind),
            None => Err(LookError::Unauthorized),
        },
        // No server of models: some desktop's service.
        403 => Err(LookError::Unexpected("an error status")),
        _ => {
            let list: Models = models.json()?;
            let owned_by = |owner| list.data.iter().any(|model| model.owned_by.as_deref() == Some(owner));
            if owned_by(llamacpp::OWNER) {
                return Ok(BackendKind::LlamaCpp);
            }
            Ok(by_routes(api, last, owned_by(vllm::OWNER)).await?.unwrap_or(BackendKind::OpenAi))
        }
    }
}

/// The kind whose routes the server shows; `None` where it shows none. vLLM's route is one that others have too: it
/// counts where `may_be_vllm`.
async fn by_routes(
    api: &ApiClient,
    last: Option<BackendKind>,
    may_be_vllm: bool,
) -> Result<Option<BackendKind>, LookError> {
    let vllm = async { if may_be_vllm { sign(BackendKind::Vllm, api).await } else { Sign::Missing } };
    if last == Some(BackendKind::Vllm) && may_be_vllm {
        return vllm.await.found(BackendKind::Vllm);
    }
    let others = future::join_all(WITH_ROUTES.map(|kind| sign(kind, api)));
    let (vllm, others) = future::join(vllm, others).await;
    let signs = WITH_ROUTES.into_iter().zip(others).chain([(BackendKind::Vllm, vllm)]);
    for (kind, sign) in signs {
        // One that is silent may be the one that the next ones imitate.
        if let Some(found) = sign.found(kind)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether a server shows the routes of a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Shown,
    Missing,
    /// No answer in time: it may be busy.
    Silent,
}

impl Sign {
    fn found(self, kind: BackendKind) -> Result<Option<BackendKind>, LookError> {
        match self {
            Self::Shown => Ok(Some(kind)),
            Self::Missing => Ok(None),
            Self::Silent => Err(LookError::TimedOut),
        }
    }
}

async fn sign(kind: BackendKind, api: &ApiClient) -> Sign {
    match timeout(SIGNS, each::answers(kind, api)).await {
        Ok(Ok(())) => Sign::Shown,
        Ok(Err(_)) => Sign::Missing,
        Err(_) => Sign::Silent,
    }
}
