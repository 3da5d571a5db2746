//! A route: one backend that serves a model, and its terms.
//!
//! A route is a fact of the catalog. The backend's load and health are not in it, because they change with every job; see
//! `capacity` and `breaker`.

use crate::messages::backend::BackendKind;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::BackendId;
use crate::messages::prices::Price;

/// A backend that serves a model, and its terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The backend.
    pub backend: BackendId,
    /// Its kind.
    pub kind: BackendKind,
    /// Whether it is on this host or network.
    pub local: bool,
    /// The most concurrent jobs of ours on that backend, over all its models. At least 1.
    pub limit: u32,
    /// Concurrent requests that the server can work, of all clients, if it reports that.
    pub slots: Option<u32>,
    /// The endpoints that the backend itself has for the model. Never empty.
    pub endpoints: Endpoints,
    /// Tokens of context that one request can use there, if known.
    pub context_window: Option<u64>,
    /// The price of a job there, including the markup.
    pub price: Price,
}

/// How a backend serves an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Service {
    /// It has the path.
    Native,
    /// It has chat completions; request and response are translated.
    Translated,
}

/// The position of a route in the order that the wire protocol defines: local before remote, then by kind. Load decides
/// only among backends of the same rank. A lesser rank is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rank {
    is_remote: bool,
    by_kind: u8,
}

impl Rank {
    /// The rank of a kind of backend, here or elsewhere.
    pub(crate) fn new(local: bool, kind: BackendKind) -> Self {
        let facts = kind.facts();
        Self { is_remote: !local, by_kind: if local { facts.local_rank } else { facts.remote_rank } }
    }
}

impl Route {
    /// How this route serves an endpoint, if it does: Anthropic's messages are translated if the backend has only chat
    /// completions.
    pub(crate) fn serves(&self, endpoint: Endpoint) -> Option<Service> {
        if self.endpoints.contains(endpoint) {
            Some(Service::Native)
        } else if endpoint == Endpoint::Messages && self.endpoints.contains(Endpoint::ChatCompletions) {
            Some(Service::Translated)
        } else {
            None
        }
    }

    /// Every endpoint that it serves, including translated ones.
    pub(crate) fn served(&self) -> Endpoints {
        Endpoint::ALL.into_iter().filter(|endpoint| self.serves(*endpoint).is_some()).collect()
    }

    /// Its position in the order of preference.
    pub(crate) fn rank(&self) -> Rank {
        Rank::new(self.local, self.kind)
    }

    /// Whether its context is known to be at least the requested one, or none is requested.
    pub(crate) fn assures(&self, context: Option<u64>) -> bool {
        context.is_none_or(|asked| self.context_window.is_some_and(|window| window >= asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(endpoints: Endpoints) -> Route {
        Route {
            backend: "b".into(),
            kind: BackendKind::Vllm,
            local: true,
            limit: 1,
            slots: None,
            endpoints,
            context_window: Some(4096),
            price: Price { input_per_1m: 1, output_per_1m: 1 },
        }
    }

    #[test]
    fn messages_are_translated_if_there_are_only_chat_completions() {
        let chat = route(Endpoints::CHAT);
        assert_eq!(chat.serves(Endpoint::ChatCompletions), Some(Service::Native));
        assert_eq!(chat.serves(Endpoint::Messages), Some(Service::Translated));
        assert_eq!(chat.serves(Endpoint::Responses), None);
        let both = route(Endpoints::CHAT.with(Endpoint::Messages));
        assert_eq!(both.serves(Endpoint::Messages), Some(Service::Native));
        assert_eq!((chat.served(), both.served()), (both.endpoints, both.endpoints));
    }

    #[test]
    fn nothing_is_translated_to_embeddings() {
        let embeddings = route(Endpoints::NONE.with(Endpoint::Embeddings));
        assert_eq!(embeddings.serves(Endpoint::Messages), None);
        assert_eq!(embeddings.served(), embeddings.endpoints);
    }

    #[test]
    fn local_comes_before_remote_whatever_the_kind() {
        assert!(Rank::new(true, BackendKind::OpenAi) < Rank::new(false, BackendKind::Vllm));
    }

    #[test]
    fn the_ranks_of_the_kinds_are_those_of_the_protocol() {
        use BackendKind::{LlamaCpp, LmStudio, Mlx, Ollama, OpenAi, OpenRouter, SgLang, Venice, Vllm};
        let local = [Vllm, LlamaCpp, LmStudio, Ollama, OpenAi].map(|kind| Rank::new(true, kind));
        let remote = [Venice, OpenRouter, OpenAi].map(|kind| Rank::new(false, kind));
        assert!([&local[..], &remote[..]].concat().is_sorted_by(|better, worse| better < worse));
        assert_eq!([SgLang, Mlx].map(|kind| Rank::new(true, kind)), [local[4]; 2]);
        assert_eq!([Vllm, Ollama].map(|kind| Rank::new(false, kind)), [remote[2]; 2]);
    }

    #[test]
    fn an_unknown_context_assures_none() {
        let known = route(Endpoints::CHAT);
        let unknown = Route { context_window: None, ..known.clone() };
        assert!(known.assures(Some(4096)) && !known.assures(Some(4097)) && known.assures(None));
        assert!(!unknown.assures(Some(1)) && unknown.assures(None));
    }
}
