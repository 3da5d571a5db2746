//! What a server offers, with the servers' own texts checked: the part of a report that differs by kind. Made by `kinds`.

use std::collections::HashSet;

use super::lenient::MOST_ENTRIES;
use crate::messages::discovery::ModelReport;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::ModelId;
use crate::messages::prices::Price;

/// Longest id of a model that is offered, in bytes.
const LONGEST_ID: usize = 256;

/// What a model is for, as its server reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// To generate text.
    Generate,
    /// To embed text.
    Embed,
    /// Both, or the server does not report it.
    Any,
}

impl Task {
    /// The endpoints that can do it, if the server has them.
    pub(super) fn endpoints(self) -> Endpoints {
        let generates = |endpoint: &Endpoint| *endpoint != Endpoint::Embeddings;
        match self {
            Self::Generate => Endpoint::ALL.into_iter().filter(generates).collect(),
            Self::Embed => Endpoints::NONE.with(Endpoint::Embeddings),
            Self::Any => Endpoint::ALL.into_iter().collect(),
        }
    }
}

/// A model as a kind's documents describe it.
pub(super) struct Entry {
    /// The id to ask the server for.
    pub(super) id: String,
    /// Tokens of context that one request can use.
    pub(super) window: Option<u64>,
    /// What it is for, as the server reports it.
    pub(super) task: Task,
    /// What a service takes for it.
    pub(super) price: Option<Price>,
}

impl Entry {
    pub(super) fn new(id: String, window: Option<u64>, task: Task) -> Self {
        Self { id, window, task, price: None }
    }
}

/// The models of a server, what it can work at once, and what it works now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Their endpoints are those that the server would have to be proved to have.
    pub(super) models: Vec<ModelReport>,
    pub(super) slots: Option<u32>,
    pub(super) active_requests: Option<u32>,
    /// The server's build, where it reports it: another one may have other endpoints.
    pub(super) version: Option<String>,
    /// Models that it lists and forwards to a service. They are not among `models`.
    pub(super) cloud_models: usize,
}

impl Offer {
    /// A model whose id is empty, long or holds control characters is left out, and so is the second of the same id. A
    /// window that is 0 is an unknown one.
    pub(super) fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut seen = HashSet::new();
        let models = entries
            .into_iter()
            .filter(|entry| (1..=LONGEST_ID).contains(&entry.id.len()) && !entry.id.chars().any(char::is_control))
            .filter(|entry| seen.insert(entry.id.clone()))
            .take(MOST_ENTRIES)
            .map(|entry| ModelReport {
                id: ModelId::from(entry.id),
                context_window: entry.window.filter(|&tokens| tokens > 0),
                endpoints: entry.task.endpoints(),
                price: entry.price,
            })
            .collect();
        Self { models, slots: None, active_requests: None, version: None, cloud_models: 0 }
    }

    /// How many requests it works at once; 0 is an unknown number.
    pub(super) fn slots(self, slots: Option<u64>) -> Self {
        let slots = slots.filter(|&slots| slots > 0).map(|slots| u32::try_from(slots).unwrap_or(u32::MAX));
        Self { slots, ..self }
    }

    /// How many requests it works now.
    pub(super) fn active_requests(self, active_requests: Option<u32>) -> Self {
        Self { active_requests, ..self }
    }

    /// Its build, as it reports it.
    pub(super) fn version(self, version: Option<String>) -> Self {
        Self { version, ..self }
    }

    /// How many of its models run at a service.
    pub(super) fn cloud_models(self, cloud_models: usize) -> Self {
        Self { cloud_models, ..self }
    }
}

/// The id of a model whose server takes any: without a name of its own the model has the path of its file for an id,
/// which stays private.
pub(super) fn without_path(id: String) -> String {
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

    fn entry(id: &str) -> Entry {
        Entry::new(id.to_owned(), Some(0), Task::Any)
    }

    #[test]
    fn ids_that_are_no_names_are_left_out() {
        let long = "x".repeat(LONGEST_ID);
        let ids = ["a", "", "a", "b\nc", "\u{1b}[2J", &long, &format!("{long}x"), "ü/ö:3b"];
        let offer = Offer::new(ids.map(entry));
        let kept: Vec<&str> = offer.models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(kept, ["a", &long, "ü/ö:3b"]);
    }

    #[test]
    fn nothing_is_not_a_number() {
        let offer = Offer::new([entry("a")]).slots(Some(0));
        assert_eq!(offer.models[0].context_window, None);
        assert_eq!(offer.slots, None);
        assert_eq!(Offer::new([]).slots(Some(u64::MAX)).slots, Some(u32::MAX));
    }

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
            assert_eq!(without_path(id.to_owned()), offered);
        }
    }
}
