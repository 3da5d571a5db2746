//! KoboldCpp. One model, and one generation at a time, as documented by the project: further requests wait.

use futures_util::future;
use serde::Deserialize;

use super::super::abort::Abort;
use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::maybe;
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{GENERATION_AND_EMBEDDINGS, Identification, Kind};
use super::openai::{MODELS, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::endpoint::Endpoint;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::KoboldCpp,
    usual_port: Some(5001),
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: Some(|api| Box::pin(load(api))),
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    // It works an empty request.
    probe: CapabilityProbe::Broken,
    documented: GENERATION_AND_EMBEDDINGS,
    abort: Some(&ABORT),
};

/// Whether the end of a connection ends its generation is not documented for OpenAI's formats. Only the generation that
/// has the key is ended.
static ABORT: Abort = Abort {
    member: "genkey",
    path: "/api/extra/abort",
    endpoints: &[Endpoint::ChatCompletions, Endpoint::Completions],
};

/// `/api/extra/version`. Needs no key.
#[derive(Deserialize)]
struct Version {
    /// The name of the program.
    result: String,
    #[serde(default, deserialize_with = "maybe")]
    version: Option<String>,
    /// Whether it has a model that generates, and one that embeds. The latter has a name of its own, which is in no
    /// list; a request may use any name.
    #[serde(default, deserialize_with = "maybe")]
    llm: Option<bool>,
    #[serde(default, deserialize_with = "maybe")]
    embeddings: Option<bool>,
}

/// `/api/extra/true_max_context_length`.
#[derive(Deserialize)]
struct Context {
    value: u64,
}

/// `/api/extra/perf`.
#[derive(Deserialize)]
struct Perf {
    /// Requests that wait.
    queue: u32,
    /// 1 while nothing is generated.
    idle: u8,
}

async fn version(api: &ApiClient) -> Result<Version, ProbeError> {
    let version: Version = api.json("/api/extra/version", DOCUMENT).await?;
    if version.result == "KoboldCpp" { Ok(version) } else { Err(ProbeError::Unexpected("another program")) }
}

async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    version(api).await.map(drop)
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let context = async { Ok(api.json::<Context>("/api/extra/true_max_context_length", DOCUMENT).await.ok()) };
    let active = async { Ok(load(api).await) };
    let (models, version, context, active) =
        future::try_join4(api.json::<Models>(MODELS, LIST), version(api), context, active).await?;
    let window = context.map(|context| context.value);
    let task = match (version.llm.unwrap_or(true), version.embeddings.unwrap_or(false)) {
        (true, true) => Some(Task::Any),
        (true, false) => Some(Task::Generate),
        (false, true) => Some(Task::Embed),
        (false, false) => None,
    };
    let entries = models.data.into_iter().filter_map(|model| Some(Entry::new(model.id, window, task?)));
    Ok(Offer::new(entries).slots(Some(1)).active_requests(active).version(version.version))
}

async fn load(api: &ApiClient) -> Option<u32> {
    let perf: Perf = api.json("/api/extra/perf", DOCUMENT).await.ok()?;
    Some(perf.queue.saturating_add(u32::from(perf.idle == 0)))
}
