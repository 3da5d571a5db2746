//! Kinds of inference servers and the API formats they speak.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Makes [`BackendKind`] of one row a kind: its name on the wire and in the configuration, and where a service is.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal $(at $url:literal)?;)*) => {
        /// What sort of server a backend is. The order is the order of preference where several serve the same model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum BackendKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl BackendKind {
            /// Every kind, in the order of preference.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The name on the wire and in the configuration.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Where a service is, as it publishes it.
            pub fn service_url(self) -> Option<&'static str> {
                match self {
                    $($(Self::$kind => Some($url),)?)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// vLLM.
    Vllm = "vllm";
    /// llama.cpp's llama-server.
    LlamaCpp = "llamacpp";
    /// LM Studio.
    LmStudio = "lmstudio";
    /// Ollama.
    Ollama = "ollama";
    /// SGLang.
    SgLang = "sglang";
    /// Hugging Face's text-generation-inference.
    Tgi = "tgi";
    /// LocalAI.
    LocalAi = "localai";
    /// KoboldCpp.
    KoboldCpp = "koboldcpp";
    /// TabbyAPI.
    TabbyApi = "tabbyapi";
    /// MLX-LM's server.
    Mlx = "mlx";
    /// LiteLLM's proxy.
    LiteLlm = "litellm";
    /// Venice, a paid service.
    Venice = "venice" at "https://api.venice.ai/api/v1";
    /// OpenRouter, a paid service.
    OpenRouter = "openrouter" at "https://openrouter.ai/api/v1";
    /// Any other server that speaks OpenAI's API. Where it is local it is the last of those, and never compared with a
    /// service; where it is remote it comes after the services.
    OpenAi = "openai";
}

impl BackendKind {
    /// The kinds that can be found on a host: all but the services.
    pub fn of_servers() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| !kind.is_service())
    }

    /// Whether it is a paid service somewhere else, which needs a key, publishes its prices and is never local.
    pub fn is_service(self) -> bool {
        self.service_url().is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_everywhere() {
        for kind in BackendKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!("OpenAI".parse::<BackendKind>(), Err(UnknownKind));
    }

    #[test]
    fn the_order_is_that_of_preference() {
        assert!(BackendKind::ALL.is_sorted());
        let services: Vec<_> = BackendKind::ALL.into_iter().filter(|kind| kind.is_service()).collect();
        assert_eq!(services, [BackendKind::Venice, BackendKind::OpenRouter]);
        assert_eq!(BackendKind::of_servers().count(), BackendKind::ALL.len() - services.len());
    }
}
