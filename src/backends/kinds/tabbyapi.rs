//! TabbyAPI. Its list has, for some keys, whatever is on disk: the models are those that it reports as loaded, one that
//! generates and one that embeds.

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::maybe;
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::DOCUMENT;
use super::kind::{GENERATION_AND_EMBEDDINGS, Identification, Kind};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::TabbyApi,
    usual_port: Some(5000),
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    probe: CapabilityProbe::Empty,
    documented: GENERATION_AND_EMBEDDINGS,
    abort: None,
};

/// `/.well-known/serviceinfo`. Needs no key.
#[derive(Deserialize)]
struct ServiceInfo {
    software: Software,
}

#[derive(Deserialize)]
struct Software {
    name: String,
}

/// `/v1/model` and `/v1/model/embedding`. An error where none is loaded.
#[derive(Deserialize)]
struct Card {
    id: String,
    #[serde(default, deserialize_with = "maybe")]
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default, deserialize_with = "maybe")]
    max_seq_len: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    max_batch_size: Option<u64>,
}

async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    let info: ServiceInfo = api.json("/.well-known/serviceinfo", DOCUMENT).await?;
    let is_it = info.software.name.eq_ignore_ascii_case("tabbyapi");
    if is_it { Ok(()) } else { Err(ProbeError::Unexpected("another program")) }
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let generates = api.json::<Card>("/v1/model", DOCUMENT);
    let embeds = api.json::<Card>("/v1/model/embedding", DOCUMENT);
    let (generates, embeds) = match future::join(generates, embeds).await {
        (Err(error), Err(_)) => return Err(error),
        (generates, embeds) => (generates.ok(), embeds.ok()),
    };
    let parameters = generates.as_ref().and_then(|card| card.parameters.as_ref());
    let (window, slots) = parameters.map_or((None, None), |reported| (reported.max_seq_len, reported.max_batch_size));
    let generates = generates.map(|card| Entry::new(card.id, window, Task::Generate));
    let embeds = embeds.map(|card| Entry::new(card.id, None, Task::Embed));
    Ok(Offer::new(generates.into_iter().chain(embeds)).slots(slots))
}
