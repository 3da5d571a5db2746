//! Any server with OpenAI's list of models, and that list's extensions by others.

use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task};
use super::super::probe::LIST;
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::OpenAi,
    // LMDeploy.
    usual_port: None,
    other_ports: &[23333],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::None,
    probe: CapabilityProbe::Empty,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// The path of the list of models.
pub(in crate::backends) const MODELS: &str = "/v1/models";

/// The list of models.
#[derive(Deserialize)]
pub(in crate::backends) struct Models {
    #[serde(deserialize_with = "list")]
    pub(in crate::backends) data: Vec<Model>,
}

/// An entry of the list. Everything but the id is an extension by one server or another.
#[derive(Deserialize)]
pub(in crate::backends) struct Model {
    pub(in crate::backends) id: String,
    #[serde(default, deserialize_with = "maybe")]
    pub(in crate::backends) owned_by: Option<String>,
    /// vLLM and SGLang.
    #[serde(default, deserialize_with = "maybe")]
    pub(in crate::backends) max_model_len: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    context_length: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    context_window: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    max_context_length: Option<u64>,
    /// llama.cpp and those built on it.
    #[serde(default, deserialize_with = "maybe")]
    pub(in crate::backends) meta: Option<Meta>,
    /// llama.cpp as a router of several models.
    #[serde(default, deserialize_with = "maybe")]
    pub(in crate::backends) status: Option<Status>,
}

/// llama.cpp's facts of a model.
#[derive(Deserialize)]
pub(in crate::backends) struct Meta {
    /// Tokens of context of one slot.
    #[serde(default, deserialize_with = "maybe")]
    pub(in crate::backends) n_ctx: Option<u64>,
}

/// What llama.cpp's router reports about a model.
#[derive(Deserialize)]
pub(in crate::backends) struct Status {
    /// `loaded`, `loading`, `unloaded`, `sleeping`, `downloading` or `failed`.
    #[serde(default, deserialize_with = "maybe")]
    pub(in crate::backends) value: Option<String>,
}

impl Model {
    fn window(&self) -> Option<u64> {
        self.max_model_len
            .or(self.context_length)
            .or(self.context_window)
            .or(self.max_context_length)
            .or_else(|| self.meta.as_ref()?.n_ctx)
    }
}

pub(in crate::backends) async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let models: Models = api.json(MODELS, LIST).await?;
    Ok(Offer::new(models.entries(Task::Any)))
}

impl Models {
    /// The models, all for the same task.
    pub(in crate::backends) fn entries(self, task: Task) -> impl Iterator<Item = Entry> {
        self.data.into_iter().map(move |model| {
            let window = model.window();
            Entry::new(model.id, window, task)
        })
    }
}
