//! MLX-LM's server. It has no route of its own and reports neither context nor slots: its list of models, which are those
//! that it would load, is all there is.

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{GENERATION, Identification, Kind};
use super::openai::{self, MODELS, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::Mlx,
    usual_port: None,
    other_ports: &[8080],
    offer: |api| Box::pin(openai::offer(api)),
    load: None,
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    // It closes the connection after an empty request.
    probe: CapabilityProbe::Broken,
    documented: GENERATION,
    abort: None,
};

/// The start of the header `Server`, in lower case: that of Python's own server, on which it is built like many.
const SERVER: &str = "basehttp/";

/// `/health`.
#[derive(Deserialize)]
struct Health {
    status: String,
}

/// Whether the server is built as MLX-LM's is, reports that it is healthy, and lists models without an owner. This is a hint and
/// not certain: a server like it is treated the same as any other server.
async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    let (health, models) = future::try_join(api.json::<Health>("/health", DOCUMENT), api.get(MODELS, LIST)).await?;
    let list: Models = models.json()?;
    let has_no_owner = !list.data.is_empty() && list.data.iter().all(|model| model.owned_by.is_none());
    let is_it = models.server.starts_with(SERVER) && health.status == "ok" && has_no_owner;
    if is_it { Ok(()) } else { Err(ProbeError::Unexpected("no sign of MLX-LM")) }
}
