//! LiteLLM's proxy. Its list of models has their names alone; what they are for is in a document that its key may not
//! open. `/health` is never requested: LiteLLM would then have each of its own servers generate.

use std::collections::HashMap;

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai::{MODELS, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::LiteLlm,
    // Not 4000: as a rule it spends the operator's account elsewhere, and repeats what is found here.
    usual_port: None,
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::Routes(|api| Box::pin(identify(api))),
    probe: CapabilityProbe::Empty,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// What it answers while it runs.
const ALIVE: &[u8] = b"I'm alive";

/// `/model/info`, as documented by the project: one entry a deployment.
#[derive(Default, Deserialize)]
struct Deployments {
    #[serde(deserialize_with = "list")]
    data: Vec<Deployment>,
}

#[derive(Deserialize)]
struct Deployment {
    model_name: String,
    #[serde(default, deserialize_with = "maybe")]
    model_info: Option<Info>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default, deserialize_with = "maybe")]
    mode: Option<String>,
    #[serde(default, deserialize_with = "maybe")]
    max_input_tokens: Option<u64>,
}

async fn identify(api: &ApiClient) -> Result<(), ProbeError> {
    let alive = api.get("/health/liveliness", DOCUMENT).await?;
    let is_it = alive.status == 200 && alive.body.windows(ALIVE.len()).any(|part| part == ALIVE);
    if is_it { Ok(()) } else { Err(ProbeError::Unexpected("no sign of LiteLLM")) }
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let deployments = async { Ok(api.json::<Deployments>("/model/info", LIST).await.unwrap_or_default()) };
    let (models, deployments) = future::try_join(api.json::<Models>(MODELS, LIST), deployments).await?;
    let mut infos: HashMap<String, Info> = HashMap::new();
    for Deployment { model_name, model_info } in deployments.data {
        let Some(info) = model_info else { continue };
        // Whichever deployment works a request, it must fit.
        let shortest = infos.get(&model_name).and_then(|other| other.max_input_tokens);
        let window = shortest.into_iter().chain(info.max_input_tokens).min();
        infos.insert(model_name, Info { max_input_tokens: window, ..info });
    }
    let entries = models.data.into_iter().filter_map(|model| {
        let info = infos.get(&model.id);
        let task = task(info.and_then(|info| info.mode.as_deref()))?;
        Some(Entry::new(model.id, info.and_then(|info| info.max_input_tokens), task))
    });
    Ok(Offer::new(entries))
}

/// What a model is for; `None` where it neither generates nor embeds text.
fn task(mode: Option<&str>) -> Option<Task> {
    match mode {
        None => Some(Task::Any),
        Some("chat" | "completion" | "responses") => Some(Task::Generate),
        Some("embedding") => Some(Task::Embed),
        Some(_) => None,
    }
}
