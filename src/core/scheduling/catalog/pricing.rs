//! The price of a model on a backend.
//!
//! The base is the operator's list price or the price that the backend publishes:
//!
//! - The published price of a remote backend replaces the operator's default price, which does not depend on the costs
//!   there.
//! - A price that the operator set for the model applies everywhere, and so does the default price on a local backend. But
//!   a published price is a lower bound of both, for prompts and answers each.
//!
//! The backend's markup is added to the base, so the offered price is never below the published price plus the markup. A
//! model is not offered on a backend where both prices are 0, nor anywhere if the operator set that price for the model.

use super::BackendPolicy;
use crate::messages::discovery::ModelReport;
use crate::messages::prices::{Price, PriceList};

/// The unit in which a markup is added, so that 0.1 is exactly a tenth.
const MARKUP_UNIT: u128 = 1_000_000_000;

/// The price of a backend's model. `None`: it is not offered there.
pub(super) fn price(prices: &PriceList, policy: &BackendPolicy, model: &ModelReport) -> Option<Price> {
    let own = prices.by_model.get(&model.id).copied();
    if own.is_some_and(Price::is_zero) {
        return None;
    }
    let base = match (model.price, own) {
        (Some(published), None) if !policy.local => published,
        (Some(published), own) => higher(own.unwrap_or(prices.default), published),
        (None, own) => own.unwrap_or(prices.default),
    };
    let asked = Price {
        input_per_1m: marked_up(base.input_per_1m, policy.markup),
        output_per_1m: marked_up(base.output_per_1m, policy.markup),
    };
    (!base.is_zero()).then_some(asked)
}

/// Whether the price `sold` is at least `asked`, for prompts and answers each.
pub(super) fn covers(sold: Price, asked: Price) -> bool {
    sold.input_per_1m >= asked.input_per_1m && sold.output_per_1m >= asked.output_per_1m
}

fn higher(a: Price, b: Price) -> Price {
    Price { input_per_1m: a.input_per_1m.max(b.input_per_1m), output_per_1m: a.output_per_1m.max(b.output_per_1m) }
}

/// The price plus the markup, to the billionth, rounded up to a whole unit. Saturates.
fn marked_up(price: u64, markup: f64) -> u64 {
    // The cast saturates. It turns a negative number and NaN into 0.
    let parts = (markup * MARKUP_UNIT as f64).round() as u64;
    let added = (u128::from(price) * u128::from(parts)).div_ceil(MARKUP_UNIT);
    u64::try_from(u128::from(price).saturating_add(added)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::endpoint::Endpoints;

    fn at(input_per_1m: u64, output_per_1m: u64) -> Price {
        Price { input_per_1m, output_per_1m }
    }

    /// The price of a model whose backend publishes `published`, with a markup of a tenth.
    fn asked(local: bool, own: Option<Price>, published: Option<Price>) -> Option<Price> {
        let prices =
            PriceList { default: at(100, 200), by_model: own.map(|own| ("m".into(), own)).into_iter().collect() };
        let policy = BackendPolicy { markup: 0.1, local, ..BackendPolicy::default() };
        let model = ModelReport { id: "m".into(), context_window: None, endpoints: Endpoints::CHAT, price: published };
        price(&prices, &policy, &model)
    }

    #[test]
    fn a_remote_backends_published_price_replaces_the_default() {
        assert_eq!(asked(false, None, Some(at(10, 20))), Some(at(11, 22)));
        assert_eq!(asked(false, None, Some(at(1000, 20))), Some(at(1100, 22)));
        assert_eq!(asked(false, None, None), Some(at(110, 220)));
    }

    #[test]
    fn a_price_of_a_model_applies_but_never_below_the_published_one() {
        for local in [true, false] {
            assert_eq!(asked(local, Some(at(50, 60)), Some(at(10, 70))), Some(at(55, 77)));
            assert_eq!(asked(local, Some(at(50, 60)), None), Some(at(55, 66)));
        }
    }

    #[test]
    fn on_a_local_backend_the_published_price_is_a_lower_bound() {
        assert_eq!(asked(true, None, Some(at(10, 300))), Some(at(110, 330)));
    }

    #[test]
    fn a_model_with_the_price_zero_is_not_offered() {
        assert_eq!(asked(false, None, Some(at(0, 0))), None);
        assert_eq!(asked(false, Some(at(0, 0)), Some(at(10, 20))), None, "the operator took it off by name");
        assert_eq!(asked(false, None, Some(at(0, 10))), Some(at(0, 11)));
    }

    #[test]
    fn a_markup_is_exact_in_decimals_rounds_up_and_saturates() {
        for (base, markup, marked) in [
            (500_000, 0.0, 500_000),
            (500_000, 0.1, 550_000),
            (500_000, 0.2, 600_000),
            (500_000, 0.3, 650_000),
            (750_000, 1.1, 1_575_000),
            (1, 0.001, 2),
            (10, 0.11, 12),
            (0, 5.0, 0),
            (500_000, -0.5, 500_000),
            (500_000, -0.0, 500_000),
            (500_000, f64::NAN, 500_000),
            (500_000, f64::NEG_INFINITY, 500_000),
            (u64::MAX, 0.0, u64::MAX),
            (u64::MAX, 0.1, u64::MAX),
            (u64::MAX, f64::INFINITY, u64::MAX),
            (u64::MAX / 2, 3.0, u64::MAX),
        ] {
            assert_eq!(marked_up(base, markup), marked, "{base} + {markup}");
        }
    }
}
