//! One backend's part in a model: what jobs sent there may count on.
//!
//! A route is a fact of the catalog. How full the backend is, and whether it answers, is not in it: that changes with every
//! job, see `capacity` and `breaker`.

use crate::messages::backend::BackendKind;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::BackendId;
use crate::messages::prices::Price;

/// A backend that serves a model, and on what terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The backend.
    pub backend: BackendId,
    /// Its kind.
    pub kind: BackendKind,
    /// Whether it is on this host or network.
    pub local: bool,
    /// Jobs of ours at once on that backend, over all its models. At least 1.
    pub limit: u32,
    /// Requests that the server works at once, whoever's they are, where it says so.
    pub slots: Option<u32>,
    /// What that backend itself can do with the model. Never none.
    pub endpoints: Endpoints,
    /// Tokens of context that one request can use there, where known.
    pub context_window: Option<u64>,
    /// What a job must earn there, the markup included.
    pub price: Price,
}

/// How a backend serves an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// It has the path.
    Native,
    /// It has chat completions, and what was asked for is translated to them and back.
    Translated,
}

/// Where a route stands in the order that the wire protocol sets: local before remote, then by the kind. Backends of the same rank are
/// equals, among which load may decide. The better rank is the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank(u8);

impl Rank {
    /// The rank of a kind of backend, here or elsewhere.
    pub fn new(local: bool, kind: BackendKind) -> Self {
        Self(match (local, kind) {
            (true, BackendKind::Vllm) => 0,
            (true, BackendKind::LlamaCpp) => 1,
            (true, BackendKind::LmStudio) => 2,
            (true, BackendKind::Ollama) => 3,
            (true, _) => 4,
            (false, BackendKind::Venice) => 5,
            (false, BackendKind::OpenRouter) => 6,
            (false, _) => 7,
        })
    }
}

impl Route {
    /// How this route serves an endpoint, if it does: Anthropic's messages are translated where only chat completions are
    /// there.
    pub fn serves(&self, endpoint: Endpoint) -> Option<Service> {
        if self.endpoints.contains(endpoint) {
            Some(Service::Native)
        } else if endpoint == Endpoint::Messages && self.endpoints.contains(Endpoint::ChatCompletions) {
            Some(Service::Translated)
        } else {
            None
        }
    }

    /// Every endpoint that it serves, one way or the other.
    pub fn served(&self) -> Endpoints {
        Endpoint::ALL.into_iter().filter(|endpoint| self.serves(*endpoint).is_some()).collect()
    }

    /// Where it stands in the binding order.
    pub fn rank(&self) -> Rank {
        Rank::new(self.local, self.kind)
    }

    /// Whether it is known to have as much context as was asked for, or nothing was asked for.
    pub fn assures(&self, context: Option<u64>) -> bool {
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
    fn messages_are_translated_where_there_are_only_chat_completions() {
        let chat = route(Endpoints::CHAT);
        assert_eq!(chat.serves(Endpoint::ChatCompletions), Some(Service::Native));
        assert_eq!(chat.serves(Endpoint::Messages), Some(Service::Translated));
        assert_eq!(chat.serves(Endpoint::Responses), None);
        let both = route(Endpoints::CHAT.with(Endpoint::Messages));
        assert_eq!(both.serves(Endpoint::Messages), Some(Service::Native));
        assert_eq!((chat.served(), both.served()), (both.endpoints, both.endpoints));
    }

    #[test]
    fn nothing_is_translated_to_what_embeds() {
        let embeddings = route(Endpoints::NONE.with(Endpoint::Embeddings));
        assert_eq!(embeddings.serves(Endpoint::Messages), None);
        assert_eq!(embeddings.served(), embeddings.endpoints);
    }

    #[test]
    fn here_comes_before_elsewhere_whatever_the_kind() {
        assert!(Rank::new(true, BackendKind::OpenAi) < Rank::new(false, BackendKind::Vllm));
        assert!(Rank::new(true, BackendKind::Vllm) < Rank::new(true, BackendKind::Ollama));
    }

    #[test]
    fn a_context_that_is_not_known_assures_none() {
        let known = route(Endpoints::CHAT);
        let unknown = Route { context_window: None, ..known.clone() };
        assert!(known.assures(Some(4096)) && !known.assures(Some(4097)) && known.assures(None));
        assert!(!unknown.assures(Some(1)) && unknown.assures(None));
    }
}
