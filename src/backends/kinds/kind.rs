//! What a kind of server consists of. Each kind has one, in its own file; `table` has them all.

use futures_util::future::LocalBoxFuture;

use super::super::LookError;
use super::super::abort::Abort;
use super::super::api::ApiClient;
use super::super::offer::Offer;
use super::super::proof::CapabilityProbe;
use crate::messages::backend::BackendKind;
use crate::messages::endpoint::{Endpoint, Endpoints};

/// Chat completions and completions.
pub(super) const GENERATION: Endpoints = Endpoints::NONE.with(Endpoint::ChatCompletions).with(Endpoint::Completions);
/// Those and embeddings.
pub(super) const GENERATION_AND_EMBEDDINGS: Endpoints = GENERATION.with(Endpoint::Embeddings);
/// All endpoints of OpenAI's API.
pub(super) const ALL_OF_OPENAI: Endpoints = GENERATION_AND_EMBEDDINGS.with(Endpoint::Responses);

/// A request to a server through its client.
type Ask<T> = fn(&ApiClient) -> LocalBoxFuture<'_, T>;

/// How servers of one kind are probed and used.
pub(in crate::backends) struct Kind {
    /// Its name.
    pub(in crate::backends) kind: BackendKind,
    /// Reads what a server offers.
    pub(in crate::backends) offer: Ask<Result<Offer, LookError>>,
    /// Reads how many requests a server works, from all its clients. `None`: this kind does not report it.
    pub(in crate::backends) load: Option<Ask<Option<u32>>>,
    /// Checks whether a server has the routes of this kind. An error where it does not. `None`: this kind has no routes
    /// of its own.
    pub(in crate::backends) identify: Option<Ask<Result<(), LookError>>>,
    /// How a server's endpoints are probed.
    pub(in crate::backends) probe: CapabilityProbe,
    /// The endpoints that the kind's documentation names. Without messages: where a server does not prove to have those,
    /// they are translated, which loses nothing if it has them after all.
    pub(in crate::backends) documented: Endpoints,
    /// How a server is made to end a request, where closing the connection may not be enough.
    pub(in crate::backends) abort: Option<&'static Abort>,
}
