//! llama.cpp's llama-server. Context and slots are in its properties; the list of models has the context too.

use futures_util::future;
use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task, without_path};
use super::super::probe::{DOCUMENT, LIST};
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai::{MODELS, Model, Models};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::LlamaCpp,
    // The second one is that of later releases; llamafile listens on the first.
    usual_port: Some(8080),
    other_ports: &[9931],
    offer: |api| Box::pin(offer(api)),
    load: Some(|api| Box::pin(load(api))),
    identification: Identification::List { server: "llama.cpp", owner: "llamacpp" },
    probe: CapabilityProbe::Empty,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// `/props`. May be refused or missing where the list of models is served.
#[derive(Default, Deserialize)]
struct Props {
    #[serde(default, deserialize_with = "maybe")]
    total_slots: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    default_generation_settings: Option<Settings>,
    #[serde(default, deserialize_with = "maybe")]
    build_info: Option<String>,
}

#[derive(Deserialize)]
struct Settings {
    /// Tokens of context of one slot, which is what one request can use.
    #[serde(default, deserialize_with = "maybe")]
    n_ctx: Option<u64>,
}

/// `/slots`. May be turned off.
#[derive(Deserialize)]
#[serde(transparent)]
struct Slots {
    #[serde(deserialize_with = "list")]
    slots: Vec<Slot>,
}

#[derive(Deserialize)]
struct Slot {
    is_processing: bool,
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let props = async { Ok(api.json::<Props>("/props", DOCUMENT).await.unwrap_or_default()) };
    let active = async { Ok(load(api).await) };
    let (models, props, active) = future::try_join3(api.json::<Models>(MODELS, LIST), props, active).await?;
    let of_slot = props.default_generation_settings.and_then(|settings| settings.n_ctx).filter(|&tokens| tokens > 0);
    let models = models.data.into_iter().filter(is_loaded).map(|model| {
        let window = of_slot.or_else(|| model.meta.as_ref()?.n_ctx);
        // That is shown by the model's endpoint alone whether it embeds: 501 without the flag for it.
        Entry::new(without_path(model.id), window, Task::Any)
    });
    Ok(Offer::new(models).slots(props.total_slots).active_requests(active).version(props.build_info))
}

/// The slots that work. Requests that wait for one are not among them.
async fn load(api: &ApiClient) -> Option<u32> {
    // Old builds show each slot's prompt.
    let Slots { slots } = api.json("/slots", LIST).await.ok()?;
    let active = slots.iter().filter(|slot| slot.is_processing).count();
    if slots.is_empty() { None } else { u32::try_from(active).ok() }
}

/// A router lists models that it would first have to load, for which it may throw out others: they are not offered.
fn is_loaded(model: &Model) -> bool {
    let status = model.status.as_ref().and_then(|status| status.value.as_deref());
    status.is_none_or(|status| matches!(status, "loaded" | "sleeping"))
}
