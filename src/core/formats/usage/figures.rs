//! The figures that servers report, whatever the format that they report them in.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::formats::{anthropic, openai};
use crate::core::json::parse;
use crate::messages::wire::Tokens;

/// Reported counts; `None` if not reported.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    input: Option<u64>,
    output: Option<u64>,
    /// Tokens of the prompt that are not in `input`: read from a cache, or written to one.
    cache_read: Option<u64>,
    cache_creation: Option<u64>,
    /// Tokens in `input` that were read from a cache.
    cached_input: Option<u64>,
}

impl Usage {
    pub(super) fn is_empty(self) -> bool {
        self.input().is_none() && self.output.is_none()
    }

    /// Tokens of the whole prompt.
    fn input(self) -> Option<u64> {
        [self.input, self.cache_read, self.cache_creation].into_iter().flatten().reduce(u64::saturating_add)
    }

    /// These figures, 0 if not reported.
    pub(super) fn tokens(self) -> Tokens {
        let cached = self.cache_read.or(self.cached_input);
        Tokens { cached, ..Tokens::new(self.input().unwrap_or(0), self.output.unwrap_or(0)) }
    }

    /// As reported for completions, chat completions and embeddings.
    pub(super) fn of_completion(value: Option<&RawValue>) -> Self {
        let Some(usage) = parse::<openai::Usage<&RawValue>>(value) else { return Self::default() };
        Self {
            cached_input: cached(usage.prompt_tokens_details),
            ..Self::of(usage.prompt_tokens, usage.completion_tokens)
        }
    }

    /// As reported for messages: cached tokens of the prompt are counted separately.
    pub(super) fn of_message(value: Option<&RawValue>) -> Self {
        let Some(usage) = parse::<anthropic::Usage>(value) else { return Self::default() };
        Self {
            cache_read: usage.cache_read_input_tokens,
            cache_creation: usage.cache_creation_input_tokens,
            ..Self::of(usage.input_tokens, usage.output_tokens)
        }
    }

    /// As reported for responses: cached tokens are included.
    pub(super) fn of_response(value: Option<&RawValue>) -> Self {
        let Some(usage) = parse::<openai::ResponseUsage<'_>>(value) else { return Self::default() };
        Self { cached_input: cached(usage.input_tokens_details), ..Self::of(usage.input_tokens, usage.output_tokens) }
    }

    /// llama.cpp's own figures.
    pub(super) fn of_timings(value: Option<&RawValue>) -> Option<Self> {
        let openai::Timings { cache_n, prompt_n, predicted_n } = parse(value)?;
        let input = cache_n.unwrap_or(0).saturating_add(prompt_n.unwrap_or(0));
        Some(Self { cached_input: cache_n, ..Self::of(Some(input), predicted_n) })
    }

    fn of(input: Option<u64>, output: Option<u64>) -> Self {
        Self { input, output, ..Self::default() }
    }

    /// These figures, and the earlier ones if a figure is not reported.
    pub(super) fn or(self, earlier: Self) -> Self {
        Self {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cache_read: self.cache_read.or(earlier.cache_read),
            cache_creation: self.cache_creation.or(earlier.cache_creation),
            cached_input: self.cached_input.or(earlier.cached_input),
        }
    }
}

/// The tokens of a prompt that were read from a cache, in the details of a prompt's tokens.
fn cached(details: Option<&RawValue>) -> Option<u64> {
    parse::<openai::PromptDetails>(details)?.cached_tokens
}

/// Any JSON object: members that a struct does not name are skipped, and must be well formed.
#[derive(Deserialize)]
pub(super) struct AnyObject {}
