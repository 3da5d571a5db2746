//! llama.cpp's llama-server. Context and slots are in its properties; the list of models has the context too.

use futures_util::future;
use serde::Deserialize;

use super::super::LookError;
use super::super::api::ApiClient;
use super::super::lenient::maybe;
use super::super::offer::Offer;
use super::super::probe::{DOCUMENT, LIST};
use super::openai::{MODELS, Model, Models};

/// The start of the header `Server`, in lower case.
pub(in crate::backends) const SERVER: &str = "llama.cpp";
/// Who owns the models in its list.
pub(in crate::backends) const OWNER: &str = "llamacpp";

/// `/props`. May be refused or missing where the list of models is served.
#[derive(Default, Deserialize)]
struct Props {
    #[serde(default, deserialize_with = "maybe")]
    total_slots: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    default_generation_settings: Option<Settings>,
}

#[derive(Deserialize)]
struct Settings {
    /// Tokens of context of one slot, which is what one request can use.
    #[serde(default, deserialize_with = "maybe")]
    n_ctx: Option<u64>,
}

pub(in crate::backends) async fn offer(api: &ApiClient) -> Result<Offer, LookError> {
    let props = async { Ok(api.json::<Props>("/props", DOCUMENT).await.unwrap_or_default()) };
    let (models, props) = future::try_join(api.json::<Models>(MODELS, LIST), props).await?;
    let of_slot = props.default_generation_settings.and_then(|settings| settings.n_ctx).filter(|&tokens| tokens > 0);
    let models = models.data.into_iter().filter(is_loaded).map(|model| {
        let window = of_slot.or_else(|| model.meta.as_ref()?.n_ctx);
        (name(model.id), window)
    });
    Ok(Offer::new(models, props.total_slots))
}

/// A router lists models that it would first have to load, for which it may throw out others: they are not offered.
fn is_loaded(model: &Model) -> bool {
    let status = model.status.as_ref().and_then(|status| status.value.as_deref());
    status.is_none_or(|status| matches!(status, "loaded" | "sleeping"))
}

/// Without an alias the id is the path of the model's file, which is nobody else's business; the file's name does as
/// well, since a server of one model ignores the name asked for.
fn name(id: String) -> String {
    let is_path = id.starts_with(['/', '\\'])
        || matches!(id.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic());
    match id.rsplit(['/', '\\']).next() {
        Some(file) if is_path => file.to_owned(),
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_offered_by_its_file_name_and_a_name_as_it_is() {
        for (id, offered) in [
            ("/home/op/models/x-Q4.gguf", "x-Q4.gguf"),
            (r"C:\models\x.gguf", "x.gguf"),
            ("C:/models/x.gguf", "x.gguf"),
            ("ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M"),
            ("x:7b", "x:7b"),
            ("smollm2-135m", "smollm2-135m"),
        ] {
            assert_eq!(name(id.to_owned()), offered);
        }
    }
}
