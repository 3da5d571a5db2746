//! Kinds of inference servers and the API formats they speak.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What sort of server a backend is. The order is the order of preference where several serve the same model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// vLLM.
    Vllm,
    /// llama.cpp's llama-server.
    LlamaCpp,
    /// LM Studio.
    LmStudio,
    /// Ollama.
    Ollama,
    /// Any other server that speaks OpenAI's API.
    OpenAi,
}

impl BackendKind {
    /// Every kind, in the order of preference.
    pub const ALL: [Self; 5] = [Self::Vllm, Self::LlamaCpp, Self::LmStudio, Self::Ollama, Self::OpenAi];

    /// The name on the wire and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llamacpp",
            Self::LmStudio => "lmstudio",
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no kind of backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of backend")]
pub struct UnknownKind;

impl FromStr for BackendKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// The shape of a job's request and of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OpenAI's chat completions, `/v1/chat/completions`. Also the meaning of any format that is not known.
    #[default]
    OpenAi,
    /// Anthropic's messages, `/v1/messages`.
    Anthropic,
}

impl Format {
    /// The API path that serves this format.
    pub fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }
}
