//! Counts the generations of one request.

use std::ops::ControlFlow;

use super::PolicyError;
use crate::core::json::Scanner;
use crate::messages::endpoint::Endpoint;

/// The most generations of one request: a job uses one slot of its backend, whatever their number.
pub(crate) const MOST_CHOICES: u64 = 8;
/// The most inputs of one request for embeddings. OpenAI's bound.
const MOST_INPUTS: u64 = 2048;

/// The counts of a request so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demanded {
    choices: u64,
    inputs: u64,
}

impl Demanded {
    pub(super) fn new() -> Self {
        Self { choices: 1, inputs: 1 }
    }

    /// Handles a member; `name` is the result of `names::folded`.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], endpoint: Endpoint) -> Result<(), PolicyError> {
        match name {
            b"n" => self.choices = self.choices.max(choices(value).ok_or(PolicyError::NotANumber("n"))?),
            b"best_of" => {
                self.choices = self.choices.max(choices(value).ok_or(PolicyError::NotANumber("best_of"))?);
            }
            b"prompt" if endpoint == Endpoint::Completions => {
                self.inputs = self.inputs.max(inputs(value, MOST_CHOICES));
            }
            b"input" if endpoint == Endpoint::Embeddings => self.inputs = self.inputs.max(inputs(value, MOST_INPUTS)),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn check(self, endpoint: Endpoint) -> Result<(), PolicyError> {
        match endpoint {
            Endpoint::Embeddings if self.inputs > MOST_INPUTS => Err(PolicyError::TooManyInputs(MOST_INPUTS)),
            Endpoint::Embeddings => Ok(()),
            _ if self.choices.saturating_mul(self.inputs) > MOST_CHOICES => {
                Err(PolicyError::TooManyChoices(MOST_CHOICES))
            }
            _ => Ok(()),
        }
    }
}

/// The number of choices in the value of `n` or `best_of`: at least 1. `None` for a value that is neither a number nor
/// null. A string is not a number, because servers differ in which strings they convert.
pub(crate) fn choices(value: &[u8]) -> Option<u64> {
    if value == b"null" {
        return Some(1);
    }
    let number: f64 = serde_json::from_slice(value).ok()?;
    // The cast saturates.
    Some((number.ceil() as u64).max(1))
}

/// The number of inputs in the value of `prompt` or `input`; more than `most` are counted as `most + 1`.
///
/// A list that begins with a number is one input: the tokens of a text, which llama.cpp allows to be mixed with texts. Of
/// any other list each element except a number is one.
pub(crate) fn inputs(value: &[u8], most: u64) -> u64 {
    let Some(list) = value.strip_prefix(b"[") else { return 1 };
    if is_number(list.trim_ascii_start()) {
        return 1;
    }
    let (mut inputs, mut numbers) = (0, 0);
    let walked = Scanner::new(value).list(|element| {
        let is_number = is_number(element);
        inputs += u64::from(!is_number);
        numbers += u32::from(is_number);
        if inputs > most || numbers > MOST_NUMBERS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if numbers > MOST_NUMBERS {
        return most.saturating_add(1);
    }
    // The grammar of the whole request was checked before.
    if walked.is_ok() { inputs.max(1) } else { most.saturating_add(1) }
}

/// Numbers that may stand among texts. A longer list is too many inputs: it is not worth a walk to its end.
const MOST_NUMBERS: u32 = 4096;

fn is_number(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'-' | b'0'..=b'9'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_counted_however_the_number_is_written() {
        let cases = [("1", 1), ("3", 3), ("1e4", 10_000), ("2.5", 3), ("-7", 1), ("0", 1), ("null", 1)];
        for (value, expected) in cases {
            assert_eq!(choices(value.as_bytes()), Some(expected), "{value}");
        }
        assert_eq!(choices(b"1e300"), Some(u64::MAX));
        for value in ["\"10000\"", "[2]", "{}", "true"] {
            assert_eq!(choices(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn an_input_is_a_text_or_its_tokens() {
        for (value, expected) in [
            (r#""a text""#, 1),
            ("[]", 1),
            ("[1, 2, 3]", 1),
            (r#"["a"]"#, 1),
            (r#"["a", "b,c" , "[d]"]"#, 3),
            ("[[1,2],[3]]", 2),
            (r#"[1, 2, "text", "text"]"#, 1),
            (r#"["text", 1, 2]"#, 1),
            (r#"[{"prompt_string":"a"},{"prompt_string":"b"}]"#, 2),
            ("null", 1),
        ] {
            assert_eq!(inputs(value.as_bytes(), 8), expected, "{value}");
        }
        let numbers = format!(r#"["text"{}]"#, ",1".repeat(5000));
        assert_eq!(inputs(numbers.as_bytes(), 8), 9);
        // Nothing is read behind the first input too many.
        assert_eq!(inputs(br#"["a","b","c", broken"#, 2), 3);
    }

    fn checked(endpoint: Endpoint, members: &[(&str, &str)]) -> Result<(), PolicyError> {
        let mut demanded = Demanded::new();
        for (name, value) in members {
            demanded.take(name.as_bytes(), value.as_bytes(), endpoint)?;
        }
        demanded.check(endpoint)
    }

    #[test]
    fn generations_are_choices_times_prompts_and_few() {
        use Endpoint::{ChatCompletions, Completions};
        let too_many = Err(PolicyError::TooManyChoices(8));
        assert_eq!(checked(ChatCompletions, &[("n", "8")]), Ok(()));
        assert_eq!(checked(ChatCompletions, &[("n", "9")]), too_many);
        assert_eq!(checked(ChatCompletions, &[("n", "9"), ("n", "1")]), too_many);
        assert_eq!(checked(Completions, &[("n", "1"), ("best_of", "9")]), too_many);
        assert_eq!(checked(Completions, &[("prompt", r#"["a","b"]"#), ("n", "4")]), Ok(()));
        assert_eq!(checked(Completions, &[("n", "5"), ("prompt", r#"["a","b"]"#)]), too_many);
        assert_eq!(checked(ChatCompletions, &[("n", "\"9\"")]), Err(PolicyError::NotANumber("n")));
        // A conversation with many items is one input.
        assert_eq!(checked(Endpoint::Responses, &[("input", r#"[{},{},{},{},{},{},{},{},{}]"#)]), Ok(()));
    }

    #[test]
    fn embeddings_take_as_many_inputs_as_openai_does() {
        let list = |inputs: usize| format!("[{}]", vec!["\"x\""; inputs].join(","));
        assert_eq!(checked(Endpoint::Embeddings, &[("input", &list(2048))]), Ok(()));
        assert_eq!(checked(Endpoint::Embeddings, &[("input", &list(2049))]), Err(PolicyError::TooManyInputs(2048)));
    }
}
