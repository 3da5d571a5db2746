//! What a service takes for a model, from the decimals it publishes to micro-USD per million tokens, exactly. Knows no
//! service's documents; used by `kinds`.
//!
//! A price that can't be read does not count, and a model without a price is not offered: it must never be sold below its cost.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::messages::prices::Price;

/// The highest price that is believed, in micro-USD per million tokens: a million USD.
const HIGHEST: u64 = 1_000_000_000_000;
/// The most digits of a decimal, before or after its point.
const MOST_DIGITS: usize = 24;

/// What a published number is the price of, in USD.
#[derive(Clone, Copy)]
pub(super) enum Per {
    /// Of one token.
    Token,
    /// Of a million tokens.
    Million,
}

/// The price of a model, of which both parts are published. `None` where one of them can't be read, and where both are 0:
/// what a service gives away, it gives to the holder of the key and in small amounts.
pub(super) fn price(input: &Decimal, output: &Decimal, per: Per) -> Option<Price> {
    let price = Price { input_per_1m: input.micro_usd(per)?, output_per_1m: output.micro_usd(per)? };
    (!price.is_zero()).then_some(price)
}

/// A number as it was spelled, in JSON as a number or as a text.
pub(super) struct Decimal(String);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The raw spelling: what became a binary fraction can't be undone.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        Ok(Self(serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())))
    }
}

impl Decimal {
    /// In micro-USD per million tokens, rounded up. `None` where it is not a decimal, negative, or implausible.
    pub(super) fn micro_usd(&self, per: Per) -> Option<u64> {
        let shift = match per {
            Per::Token => 12,
            Per::Million => 6,
        };
        scaled_up(&self.0, shift).filter(|&amount| amount <= HIGHEST)
    }
}

/// A decimal such as `0.15`, `2` or `1.5e-7` times ten to the power of `shift`, rounded up.
fn scaled_up(text: &str, shift: i32) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i8>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |digits: &str| digits.len() <= MOST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    // Where the point is, counted from the first digit.
    let point = i32::try_from(whole.len()).ok()? + i32::from(exponent) + shift;
    let point = usize::try_from(point.max(0)).ok()?;
    let kept = digits.get(..point).map_or_else(|| format!("{digits:0<point$}"), str::to_owned);
    let amount: u64 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    // Nothing of a number is cut off that starts before its first digit.
    let rest = digits.get(point..).unwrap_or_default();
    let starts_later = i32::try_from(whole.len()).ok()? + i32::from(exponent) + shift < 0;
    let cut_off = if starts_later { digits.as_str() } else { rest };
    if cut_off.bytes().any(|digit| digit != b'0') { amount.checked_add(1) } else { Some(amount) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str, per: Per) -> Option<u64> {
        serde_json::from_str::<Decimal>(json).unwrap().micro_usd(per)
    }

    #[test]
    fn a_price_is_converted_exactly_and_rounded_up() {
        for (published, per, expected) in [
            (r#""0.00000015""#, Per::Token, 150_000),
            (r#""0.0000006""#, Per::Token, 600_000),
            (r#""0.000000000001""#, Per::Token, 1),
            (r#""0.0000000000011""#, Per::Token, 2),
            (r#""0.00000000000000001""#, Per::Token, 1),
            ("1.5e-7", Per::Token, 150_000),
            ("1E-13", Per::Token, 1),
            ("1e-40", Per::Token, 1),
            (r#""0""#, Per::Token, 0),
            ("0.0", Per::Million, 0),
            ("0.15", Per::Million, 150_000),
            ("2", Per::Million, 2_000_000),
            ("0.1", Per::Million, 100_000),
            ("3e0", Per::Million, 3_000_000),
            ("0.0000001", Per::Million, 1),
            ("1000000", Per::Million, HIGHEST),
        ] {
            assert_eq!(read(published, per), Some(expected), "{published}");
        }
    }

    #[test]
    fn what_is_no_price_is_none() {
        for published in [
            r#""-1""#,
            "-0.1",
            "null",
            "true",
            "[1]",
            "{}",
            r#""""#,
            r#"".5""#,
            r#""NaN""#,
            r#""1,5""#,
            r#""0x1""#,
            r#""1.2.3""#,
            r#""+1""#,
            r#"" 1""#,
            r#""1e999""#,
            "1e30",
            "1000001",
            r#""0.1 USD""#,
        ] {
            assert_eq!(read(published, Per::Million), None, "{published}");
        }
        assert_eq!(read(&format!("\"{}\"", "0".repeat(25)), Per::Token), None);
    }

    #[test]
    fn a_model_has_a_price_where_both_parts_have_one_and_one_is_not_zero() {
        let of = |input: &str, output: &str| {
            let [input, output] = [input, output].map(|text| Decimal(text.to_owned()));
            price(&input, &output, Per::Million).map(|price| (price.input_per_1m, price.output_per_1m))
        };
        assert_eq!(of("1", "2"), Some((1_000_000, 2_000_000)));
        assert_eq!(of("0.05", "0"), Some((50_000, 0)));
        assert_eq!(of("0", "0"), None);
        assert_eq!(of("1", "-1"), None);
    }

    proptest! {
        #[test]
        fn no_digit_is_lost_whatever_the_place_of_the_point(whole in 0_u64..1000, millionths in 0_u64..1_000_000) {
            let spelled = format!("{whole}.{millionths:06}");
            prop_assert_eq!(read(&spelled, Per::Million), Some(whole * 1_000_000 + millionths));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9eE.+-]{0,30}", shift in 0_i32..13) {
            let _ = scaled_up(&text, shift);
        }
    }
}
