//! Kinds of inference servers and the API formats they speak.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Makes [`BackendKind`] of one row a kind: its name on the wire and in the configuration, and its facts.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $facts:expr;)*) => {
        /// What sort of server a backend is. How the servers of a kind are probed is in its file in `src/backends/kinds`; what
        /// the layers below need to know of a kind is here, in its `KindFacts`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum BackendKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl BackendKind {
            /// Every kind.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The name on the wire and in the configuration.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Its facts.
            pub fn facts(self) -> KindFacts {
                match self {
                    $(Self::$kind => $facts,)*
                }
            }
        }
    };
}

kinds! {
    /// vLLM.
    Vllm = "vllm", KindFacts { local_rank: 0, ..ENGINE };
    /// llama.cpp's llama-server.
    LlamaCpp = "llamacpp", KindFacts { local_rank: 1, ..ENGINE };
    /// LM Studio.
    LmStudio = "lmstudio", KindFacts { local_rank: 2, ..ENGINE };
    /// Ollama.
    Ollama = "ollama", KindFacts { local_rank: 3, ..ENGINE };
    /// SGLang.
    SgLang = "sglang", ENGINE;
    /// Hugging Face's text-generation-inference.
    Tgi = "tgi", KindFacts { fetches_markdown: true, ..ENGINE };
    /// LocalAI.
    LocalAi = "localai", ENGINE;
    /// KoboldCpp.
    KoboldCpp = "koboldcpp", ENGINE;
    /// TabbyAPI.
    TabbyApi = "tabbyapi", ENGINE;
    /// MLX-LM's server.
    Mlx = "mlx", ENGINE;
    /// LiteLLM's proxy.
    LiteLlm = "litellm", OTHER;
    /// Venice, a paid service.
    Venice = "venice", KindFacts { remote_rank: 0, ..service("https://api.venice.ai/api/v1") };
    /// OpenRouter, a paid service.
    OpenRouter = "openrouter", KindFacts { remote_rank: 1, ..service("https://openrouter.ai/api/v1") };
    /// Any other server with OpenAI's API.
    OpenAi = "openai", OTHER;
}

/// What is known of a kind of server without talking to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindFacts {
    /// What is sent to such servers, and where they are.
    pub class: KindClass,
    /// Its position among the local backends of a model. The least is preferred; the wire protocol defines the order.
    pub local_rank: u8,
    /// Its position among the remote backends of a model.
    pub remote_rank: u8,
    /// Whether it fetches images that a text names in Markdown.
    pub fetches_markdown: bool,
}

/// What sort of program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindClass {
    /// It runs models itself: it is known what it does with the members of a request.
    Engine,
    /// It passes requests on, or is unknown: members that are not listed may cost money, or name a URL to call.
    Other,
    /// A paid service at this URL. It needs a key, publishes its prices and is never local. Members as for `Other`.
    Service(&'static str),
}

/// The rank of all kinds without one of their own.
const LAST: u8 = u8::MAX;

const ENGINE: KindFacts =
    KindFacts { class: KindClass::Engine, local_rank: LAST, remote_rank: LAST, fetches_markdown: false };
const OTHER: KindFacts = KindFacts { class: KindClass::Other, ..ENGINE };

const fn service(url: &'static str) -> KindFacts {
    KindFacts { class: KindClass::Service(url), ..ENGINE }
}

impl BackendKind {
    /// The kind of a server of which no more is known than that it has OpenAI's API.
    pub const GENERIC: Self = Self::OpenAi;

    /// The kinds that can be found on a host: all but the services.
    pub fn of_servers() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| !kind.is_service())
    }

    /// The paid services.
    pub fn of_services() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| kind.is_service())
    }

    /// Whether it is a paid service.
    pub fn is_service(self) -> bool {
        self.service_url().is_some()
    }

    /// The URL of a service, as it publishes it.
    pub fn service_url(self) -> Option<&'static str> {
        match self.facts().class {
            KindClass::Service(url) => Some(url),
            KindClass::Engine | KindClass::Other => None,
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
    fn a_service_has_no_local_rank_and_a_server_no_url() {
        for kind in BackendKind::of_services() {
            assert_eq!((kind.facts().local_rank, kind.service_url().is_some()), (LAST, true), "{kind}");
        }
        for kind in BackendKind::of_servers() {
            assert_eq!((kind.facts().remote_rank, kind.service_url()), (LAST, None), "{kind}");
        }
    }
}
