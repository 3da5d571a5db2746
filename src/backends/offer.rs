//! What a server offers, with the servers' own texts checked: the part of a report that differs by kind. Made by `kinds`.

use std::collections::HashSet;

use super::lenient::MOST_ENTRIES;
use crate::messages::discovery::ModelReport;
use crate::messages::endpoint::Endpoints;
use crate::messages::ids::ModelId;

/// Longest id of a model that is offered, in bytes.
const LONGEST_ID: usize = 256;

/// The models of a server and how many requests it works at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) models: Vec<ModelReport>,
    pub(super) slots: Option<u32>,
}

impl Offer {
    /// Models as (id, context window). One whose id is empty, long or holds control characters is left out, and so is
    /// the second of the same id. A window or a number of slots that is 0 is an unknown one.
    pub(super) fn new(models: impl IntoIterator<Item = (String, Option<u64>)>, slots: Option<u64>) -> Self {
        let mut seen = HashSet::new();
        let models = models
            .into_iter()
            .filter(|(id, _)| (1..=LONGEST_ID).contains(&id.len()) && !id.chars().any(char::is_control))
            .filter(|(id, _)| seen.insert(id.clone()))
            .take(MOST_ENTRIES)
            .map(|(id, window)| ModelReport {
                id: ModelId::from(id),
                context_window: window.filter(|&tokens| tokens > 0),
                endpoints: Endpoints::CHAT,
                price: None,
            })
            .collect();
        let slots = slots.filter(|&slots| slots > 0).map(|slots| u32::try_from(slots).unwrap_or(u32::MAX));
        Self { models, slots }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_no_names_are_left_out() {
        let long = "x".repeat(LONGEST_ID);
        let ids = ["a", "", "a", "b\nc", "\u{1b}[2J", &long, &format!("{long}x"), "ü/ö:3b"];
        let offer = Offer::new(ids.map(|id| (id.to_owned(), None)), None);
        let kept: Vec<&str> = offer.models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(kept, ["a", &long, "ü/ö:3b"]);
    }

    #[test]
    fn nothing_is_not_a_number() {
        let offer = Offer::new([("a".to_owned(), Some(0))], Some(0));
        assert_eq!(offer.models[0].context_window, None);
        assert_eq!(offer.slots, None);
        assert_eq!(Offer::new([], Some(u64::MAX)).slots, Some(u32::MAX));
    }
}
