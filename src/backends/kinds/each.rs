//! The parts of a kind, by kind. Knows no document; driven by `observer`, `identify` and `client`.

use super::super::LookError;
use super::super::abort::Abort;
use super::super::api::ApiClient;
use super::super::offer::Offer;
use super::super::proof::Question;
use super::{
    koboldcpp, litellm, llamacpp, lmstudio, localai, mlx, ollama, openai, openrouter, sglang, tabbyapi, tgi, venice,
    vllm,
};
use crate::messages::backend::BackendKind;
use crate::messages::endpoint::{Endpoint, Endpoints};

/// What a server of this kind offers.
pub(in crate::backends) async fn offer(kind: BackendKind, api: &ApiClient) -> Result<Offer, LookError> {
    match kind {
        BackendKind::Vllm => vllm::offer(api).await,
        BackendKind::LlamaCpp => llamacpp::offer(api).await,
        BackendKind::LmStudio => lmstudio::offer(api).await,
        BackendKind::Ollama => ollama::offer(api).await,
        BackendKind::SgLang => sglang::offer(api).await,
        BackendKind::Tgi => tgi::offer(api).await,
        BackendKind::LocalAi => localai::offer(api).await,
        BackendKind::KoboldCpp => koboldcpp::offer(api).await,
        BackendKind::TabbyApi => tabbyapi::offer(api).await,
        // Its list has nothing that others' have not.
        BackendKind::Mlx | BackendKind::OpenAi => openai::offer(api).await,
        BackendKind::LiteLlm => litellm::offer(api).await,
        BackendKind::Venice => venice::offer(api).await,
        BackendKind::OpenRouter => openrouter::offer(api).await,
    }
}

/// How many requests it works now, whoever's they are. `None` where it does not say.
pub(in crate::backends) async fn load(kind: BackendKind, api: &ApiClient) -> Option<u32> {
    match kind {
        BackendKind::Vllm => vllm::load(api).await,
        BackendKind::LlamaCpp => llamacpp::load(api).await,
        BackendKind::SgLang => sglang::load(api).await,
        BackendKind::Tgi => tgi::load(api).await,
        BackendKind::KoboldCpp => koboldcpp::load(api).await,
        _ => None,
    }
}

/// How its endpoints are proved.
pub(in crate::backends) fn question(kind: BackendKind) -> Question {
    match kind {
        // Ollama answers an empty request for a completion as if it had no such path; KoboldCpp and LocalAI take one and
        // work it; MLX-LM drops the connection.
        BackendKind::Ollama | BackendKind::KoboldCpp | BackendKind::LocalAi | BackendKind::Mlx => Question::Broken,
        kind if kind.is_service() => Question::Documented,
        _ => Question::Empty,
    }
}

/// The endpoints that its documentation names. Not messages: where a server does not prove to have those, they are
/// translated, which loses nothing if it has them after all.
pub(in crate::backends) fn documented(kind: BackendKind) -> Endpoints {
    let generates = Endpoints::NONE.with(Endpoint::ChatCompletions).with(Endpoint::Completions);
    match kind {
        BackendKind::Tgi | BackendKind::Mlx => generates,
        BackendKind::KoboldCpp | BackendKind::TabbyApi => generates.with(Endpoint::Embeddings),
        BackendKind::Vllm
        | BackendKind::LlamaCpp
        | BackendKind::LmStudio
        | BackendKind::Ollama
        | BackendKind::SgLang
        | BackendKind::LocalAi
        | BackendKind::LiteLlm
        | BackendKind::Venice
        | BackendKind::OpenRouter
        | BackendKind::OpenAi => generates.with(Endpoint::Embeddings).with(Endpoint::Responses),
    }
}

/// How it is told to end a request, where closing the connection may not do.
pub(in crate::backends) fn abort(kind: BackendKind) -> Option<&'static Abort> {
    match kind {
        BackendKind::SgLang => Some(&sglang::ABORT),
        BackendKind::KoboldCpp => Some(&koboldcpp::ABORT),
        _ => None,
    }
}

/// Whether a server shows the routes of this kind. An error where it shows others, or none. Kinds without routes of
/// their own never do.
pub(in crate::backends) async fn answers(kind: BackendKind, api: &ApiClient) -> Result<(), LookError> {
    match kind {
        BackendKind::Vllm => vllm::answers(api).await,
        BackendKind::LmStudio => lmstudio::answers(api).await,
        BackendKind::Ollama => ollama::answers(api).await,
        BackendKind::SgLang => sglang::answers(api).await,
        BackendKind::Tgi => tgi::answers(api).await,
        BackendKind::LocalAi => localai::answers(api).await,
        BackendKind::KoboldCpp => koboldcpp::answers(api).await,
        BackendKind::TabbyApi => tabbyapi::answers(api).await,
        BackendKind::Mlx => mlx::answers(api).await,
        BackendKind::LiteLlm => litellm::answers(api).await,
        BackendKind::LlamaCpp | BackendKind::Venice | BackendKind::OpenRouter | BackendKind::OpenAi => {
            Err(LookError::Unexpected("no routes of its own"))
        }
    }
}
