//! The operator's prices.

use std::collections::BTreeMap;

use super::reader::Reader;
use super::report::Cause;
use super::{units, vars};
use crate::messages::ids::ModelId;
use crate::messages::prices::{Price, PriceList};

/// The highest price, in micro-USD per million tokens: a million USD. Small enough to be exact in JSON and to be
/// multiplied by a markup.
const HIGHEST: u64 = 1_000_000_000_000;

/// Reads the default prices and those of single models.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<PriceList> {
    let amount = |text: &str| units::integer(text, 0, HIGHEST);
    let input = reader.parse(&vars::PRICE_INPUT, amount);
    let output = reader.parse(&vars::PRICE_OUTPUT, amount);
    let mut by_model = BTreeMap::new();
    reader.list(&vars::PRICES, |entry| {
        let (model, price) = parse(entry)?;
        match by_model.insert(model, price) {
            Some(_) => Err(Cause::DuplicateModel),
            None => Ok(()),
        }
    });
    Some(PriceList { default: Price { input_per_1m: input?, output_per_1m: output? }, by_model })
}

/// One entry, `model=input/output`. A model's name may hold `=` and `/` too.
fn parse(entry: &str) -> Result<(ModelId, Price), Cause> {
    let (model, price) = entry.rsplit_once('=').ok_or(Cause::NotAPrice)?;
    let (input, output) = price.split_once('/').ok_or(Cause::NotAPrice)?;
    let model = model.trim();
    if model.is_empty() {
        return Err(Cause::NotAPrice);
    }
    let amount = |text: &str| units::integer(text.trim(), 0, HIGHEST);
    Ok((model.into(), Price { input_per_1m: amount(input)?, output_per_1m: amount(output)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_split_at_its_last_equals_sign() {
        for (entry, model, input, output) in [
            ("llama3.2:3b=1/2", "llama3.2:3b", 1, 2),
            ("org/model=0/0", "org/model", 0, 0),
            ("a=b/c=3/4", "a=b/c", 3, 4),
            ("m = 5 / 6", "m", 5, 6),
        ] {
            let price = Price { input_per_1m: input, output_per_1m: output };
            assert_eq!(parse(entry), Ok((ModelId::from(model), price)), "{entry}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for entry in ["m", "m=", "m=1", "=1/2", " =1/2"] {
            assert_eq!(parse(entry), Err(Cause::NotAPrice), "{entry}");
        }
        for entry in ["m=1/", "m=a/2", "m=1/2/3", "m=-1/2", "m=1.5/2", "m=1000000000001/0"] {
            assert_eq!(parse(entry), Err(Cause::NotAnInteger { min: 0, max: HIGHEST }), "{entry}");
        }
    }
}
