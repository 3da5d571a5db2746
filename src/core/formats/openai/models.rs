//! The list of models, as this program serves it. What servers add to the list is declared with their kinds.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::core::json::word;

/// The body of `GET /v1/models`.
#[derive(Deserialize, Serialize)]
pub(crate) struct ModelList<'a> {
    #[serde(borrow, default, deserialize_with = "word")]
    object: &'a str,
    #[serde(borrow)]
    pub(crate) data: Vec<Model<'a>>,
}

/// An entry of the list.
#[derive(Deserialize, Serialize)]
pub(crate) struct Model<'a> {
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "word")]
    object: &'a str,
    /// In seconds of Unix time.
    #[serde(default)]
    created: u64,
    #[serde(borrow, default, deserialize_with = "word")]
    owned_by: &'a str,
    /// An extension of this program: tokens of context.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
}

impl<'a> ModelList<'a> {
    /// A list of these models.
    pub(crate) fn of(models: impl IntoIterator<Item = Model<'a>>) -> Self {
        Self { object: "list", data: models.into_iter().collect() }
    }
}

impl<'a> Model<'a> {
    /// A model that this program offers.
    pub(crate) fn new(id: &'a str, created: u64, context_window: Option<u64>) -> Self {
        Self { id: id.into(), object: "model", created, owned_by: "outpost", context_window }
    }
}
