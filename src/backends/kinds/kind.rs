//! What a kind of server consists of. Each kind has one, in its own file; `table` has them all.

use futures_util::future::LocalBoxFuture;

use super::super::abort::Abort;
use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::offer::Offer;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::endpoint::{Endpoint, Endpoints};

/// Chat completions and completions.
pub(super) const GENERATION: Endpoints = Endpoints::NONE.with(Endpoint::ChatCompletions).with(Endpoint::Completions);
/// Those and embeddings.
pub(super) const GENERATION_AND_EMBEDDINGS: Endpoints = GENERATION.with(Endpoint::Embeddings);
/// All endpoints of OpenAI's API.
pub(super) const ALL_OF_OPENAI: Endpoints = GENERATION_AND_EMBEDDINGS.with(Endpoint::Responses);

/// A request to a server through its client.
pub(in crate::backends) type Ask<T> = fn(&ApiClient) -> LocalBoxFuture<'_, T>;

/// How servers of one kind are probed and used.
pub(in crate::backends) struct Kind {
    /// Its name.
    pub(in crate::backends) kind: BackendKind,
    /// The port where such servers listen by default, and where one that is found has the plain name of its kind.
    pub(in crate::backends) usual_port: Option<u16>,
    /// More ports where such servers often listen. They may be those of other kinds too. Not 80, where a model server hardly
    /// ever listens.
    pub(in crate::backends) other_ports: &'static [u16],
    /// Reads what a server offers.
    pub(in crate::backends) offer: Ask<Result<Offer, ProbeError>>,
    /// Reads how many requests a server works, from all its clients. `None`: this kind does not report it.
    pub(in crate::backends) load: Option<Ask<Option<u32>>>,
    /// How a server of this kind is distinguished from those of other kinds.
    pub(in crate::backends) identification: Identification,
    /// How a server's endpoints are probed.
    pub(in crate::backends) probe: CapabilityProbe,
    /// The endpoints that the kind's documentation names. Without messages: where a server does not prove to have those,
    /// they are translated, which loses nothing if it has them after all.
    pub(in crate::backends) documented: Endpoints,
    /// How a server is made to end a request, where closing the connection may not be enough.
    pub(in crate::backends) abort: Option<&'static Abort>,
}

/// How a server of a kind is distinguished from those of other kinds.
pub(in crate::backends) enum Identification {
    /// It is not: such servers are configured, or found because nothing else fits.
    None,
    /// By its response to the request for the list of models.
    List {
        /// The start of the header `Server`, in lower case.
        server: &'static str,
        /// The owner of the models in the list.
        owner: &'static str,
    },
    /// By routes that only such servers and their imitators have. An error where a server does not have them.
    Routes(Ask<Result<(), ProbeError>>),
    /// By a route that others have too. It counts if the list names this owner, or can't be read without a key.
    RouteAndOwner {
        /// An error where a server does not have the route.
        route: Ask<Result<(), ProbeError>>,
        /// The owner of the models in the list.
        owner: &'static str,
    },
}
