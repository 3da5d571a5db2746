//! Venice, a service. Everything is in its list of models; it is sent nothing that it could bill.
//!
//! Left out are models whose price can't be read or is missing, those that are offline, and those that neither
//! generate nor embed text. A model whose price rises with a long context goes by the higher one.

use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task};
use super::super::price::{Decimal, Per, price};
use super::super::probe::LIST;
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::prices::Price;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::Venice,
    usual_port: None,
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::None,
    probe: CapabilityProbe::Documented,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// Without the query the list has one sort of models alone.
const MODELS: &str = "/v1/models?type=all";

#[derive(Deserialize)]
struct Models {
    #[serde(deserialize_with = "list")]
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// `text`, `embedding`, `image` and so on.
    #[serde(rename = "type")]
    kind: String,
    model_spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "availableContextTokens", default, deserialize_with = "maybe")]
    context: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    offline: Option<bool>,
    pricing: Pricing,
}

/// In USD for a million tokens.
#[derive(Deserialize)]
struct Pricing {
    input: Amount,
    output: Amount,
    /// Past a number of tokens of context.
    extended: Option<Extended>,
}

#[derive(Deserialize)]
struct Extended {
    input: Amount,
    output: Amount,
}

#[derive(Deserialize)]
struct Amount {
    usd: Decimal,
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let models: Models = api.json(MODELS, LIST).await?;
    let online = models.data.into_iter().filter(|model| model.model_spec.offline != Some(true));
    let mut offer = Offer::new(online.filter_map(|model| {
        let task = match model.kind.as_str() {
            "text" => Task::Generate,
            "embedding" => Task::Embed,
            _ => return None,
        };
        let price = price_of(&model.model_spec.pricing)?;
        Some(Entry { price: Some(price), ..Entry::new(model.id, model.model_spec.context, task) })
    }));
    for model in &mut offer.models {
        let documented = |endpoint: &Endpoint| matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Embeddings);
        model.endpoints = model.endpoints.iter().filter(documented).collect::<Endpoints>();
    }
    Ok(offer)
}

fn price_of(pricing: &Pricing) -> Option<Price> {
    let base = price(&pricing.input.usd, &pricing.output.usd, Per::Million)?;
    let Some(extended) = &pricing.extended else { return Some(base) };
    let extended = price(&extended.input.usd, &extended.output.usd, Per::Million)?;
    Some(Price {
        input_per_1m: base.input_per_1m.max(extended.input_per_1m),
        output_per_1m: base.output_per_1m.max(extended.output_per_1m),
    })
}
