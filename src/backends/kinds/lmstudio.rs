//! LM Studio. Its own lists show what is loaded, which the OpenAI-style one does not: that lists whatever was downloaded.
//!
//! Only loaded models are offered. Asking for another would load it, for minutes, and may push out a loaded one.
//! An unknown path is answered 200 with an error in JSON, so only the shape of an answer counts.

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::LIST;
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::LmStudio,
    usual_port: Some(1234),
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    probe: CapabilityProbe::Empty,
    documented: ALL_OF_OPENAI,
    abort: None,
};

const CURRENT: &str = "/api/v1/models";
const OLDER: &str = "/api/v0/models";

/// The list since LM Studio 0.4.
#[derive(Deserialize)]
struct Current {
    #[serde(deserialize_with = "list")]
    models: Vec<CurrentModel>,
}

#[derive(Deserialize)]
struct CurrentModel {
    /// Present in every entry; what distinguishes this list from others.
    #[serde(rename = "key")]
    _key: String,
    #[serde(rename = "type", default, deserialize_with = "maybe")]
    kind: Option<String>,
    #[serde(deserialize_with = "list")]
    loaded_instances: Vec<Instance>,
    #[serde(default, deserialize_with = "maybe")]
    max_context_length: Option<u64>,
}

#[derive(Deserialize)]
struct Instance {
    /// The name by which the API reaches this instance.
    id: String,
    #[serde(default, deserialize_with = "maybe")]
    config: Option<InstanceConfig>,
}

#[derive(Deserialize)]
struct InstanceConfig {
    #[serde(default, deserialize_with = "maybe")]
    context_length: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    parallel: Option<u64>,
}

/// The list since LM Studio 0.3.6.
#[derive(Deserialize)]
struct Older {
    #[serde(deserialize_with = "list")]
    data: Vec<OlderModel>,
}

#[derive(Deserialize)]
struct OlderModel {
    id: String,
    #[serde(rename = "type", default, deserialize_with = "maybe")]
    kind: Option<String>,
    /// `loaded` or `not-loaded`.
    state: String,
    #[serde(default, deserialize_with = "maybe")]
    loaded_context_length: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    max_context_length: Option<u64>,
}

/// Whether the server has LM Studio's own list with at least one model in it: an empty one could be anybody's.
async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    let (current, older) = ask(api).await;
    let is_it = current.is_ok_and(|list| !list.models.is_empty()) || older.is_ok_and(|list| !list.data.is_empty());
    if is_it { Ok(()) } else { Err(ProbeError::Unexpected("no list of LM Studio's")) }
}

/// For one that is too old for both, the OpenAI-style list is requested.
async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    match ask(api).await {
        (Ok(list), _) => Ok(offer_of_current(list)),
        (_, Ok(list)) => Ok(offer_of_older(list)),
        (Err(ProbeError::Unexpected(_)), Err(ProbeError::Unexpected(_))) => openai::offer(api).await,
        (Err(ProbeError::Unexpected(_)), Err(error)) | (Err(error), _) => Err(error),
    }
}

async fn ask(api: &ApiClient) -> (Result<Current, ProbeError>, Result<Older, ProbeError>) {
    future::join(api.json(CURRENT, LIST), api.json(OLDER, LIST)).await
}

fn offer_of_current(list: Current) -> Offer {
    let loaded: Vec<(Instance, Task, Option<u64>)> = list
        .models
        .into_iter()
        .flat_map(|model| {
            let (task, longest) = (task(model.kind.as_deref()), model.max_context_length);
            model.loaded_instances.into_iter().map(move |instance| (instance, task, longest))
        })
        .collect();
    // Each instance that generates has its own slots; the server has them all. One that reports none makes the sum unknown.
    let generating = loaded.iter().filter(|(_, task, _)| *task == Task::Generate);
    let mut slots = generating.map(|(instance, ..)| instance.config.as_ref()?.parallel);
    let slots = slots.try_fold(0_u64, |sum, slots| Some(sum.saturating_add(slots?)));
    let entries = loaded.into_iter().map(|(instance, task, longest)| {
        let window = instance.config.and_then(|config| config.context_length);
        Entry::new(instance.id, window.or(longest), task)
    });
    Offer::new(entries).slots(slots)
}

fn offer_of_older(list: Older) -> Offer {
    let loaded = list.data.into_iter().filter(|model| model.state == "loaded");
    Offer::new(loaded.map(|model| {
        let task = task(model.kind.as_deref());
        Entry::new(model.id, model.loaded_context_length.or(model.max_context_length), task)
    }))
}

/// The two lists write it in the singular and in the plural. Whatever else a model is, it generates.
fn task(kind: Option<&str>) -> Task {
    match kind {
        Some("embedding" | "embeddings") => Task::Embed,
        _ => Task::Generate,
    }
}
