//! OpenRouter, a service. Everything is in its public list of models; it is sent nothing that it could bill.
//!
//! A model goes by the price that the list has for it. Left out are models whose price can't be read or is missing,
//! those that cost something for each request too, which a price by tokens does not cover, and those that write no text.

use serde::Deserialize;

use super::super::api::ApiClient;
use super::super::capability::CapabilityProbe;
use super::super::lenient::{list, maybe};
use super::super::offer::{Entry, Offer, Task};
use super::super::price::{Decimal, Per, price};
use super::super::probe::LIST;
use super::kind::{ALL_OF_OPENAI, Identification, Kind};
use super::openai::MODELS;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::prices::Price;

/// The row of this kind.
pub(super) static KIND: Kind = Kind {
    kind: BackendKind::OpenRouter,
    usual_port: None,
    other_ports: &[],
    offer: |api| Box::pin(offer(api)),
    load: None,
    identification: Identification::None,
    probe: CapabilityProbe::Documented,
    documented: ALL_OF_OPENAI,
    abort: None,
};

/// The list of models.
#[derive(Deserialize)]
struct Models {
    #[serde(deserialize_with = "list")]
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default, deserialize_with = "maybe")]
    context_length: Option<u64>,
    pricing: Pricing,
    #[serde(default, deserialize_with = "maybe")]
    architecture: Option<Architecture>,
}

/// In USD for one token, or for one request. Negative where the model stands for others, whose price it has then.
#[derive(Deserialize)]
struct Pricing {
    prompt: Decimal,
    completion: Decimal,
    request: Option<Decimal>,
    /// Tokens of thought, where they have another price than those of the answer.
    internal_reasoning: Option<Decimal>,
}

#[derive(Deserialize)]
struct Architecture {
    #[serde(default, deserialize_with = "maybe")]
    output_modalities: Option<Vec<String>>,
}

async fn offer(api: &ApiClient) -> Result<Offer, ProbeError> {
    let models: Models = api.json(MODELS, LIST).await?;
    Ok(Offer::new(models.data.into_iter().filter(writes_text).filter_map(|model| {
        let price = price_of(&model.pricing)?;
        // Those that embed are in a list of their own.
        Some(Entry { price: Some(price), ..Entry::new(model.id, model.context_length, Task::Generate) })
    })))
}

fn writes_text(model: &Model) -> bool {
    let outputs = model.architecture.as_ref().and_then(|architecture| architecture.output_modalities.as_ref());
    outputs.is_none_or(|modalities| modalities.iter().any(|modality| modality == "text"))
}

fn price_of(pricing: &Pricing) -> Option<Price> {
    let is_zero = |part: &Decimal| part.micro_usd(Per::Token) == Some(0);
    if !pricing.request.as_ref().is_none_or(is_zero) {
        return None;
    }
    let price = price(&pricing.prompt, &pricing.completion, Per::Token)?;
    let thought = pricing.internal_reasoning.as_ref().map_or(Some(0), |part| part.micro_usd(Per::Token))?;
    Some(Price { output_per_1m: price.output_per_1m.max(thought), ..price })
}
