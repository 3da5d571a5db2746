//! The figures that servers report, and the events that contain them: OpenAI's three kinds of streams and Anthropic's.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

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
        Tokens::new(self.input().unwrap_or(0), self.output.unwrap_or(0))
    }

    /// As reported for completions, chat completions and embeddings.
    pub(super) fn of_prompt(value: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Figures {
            #[serde(default)]
            prompt_tokens: Count,
            #[serde(default)]
            completion_tokens: Count,
        }
        let figures = parse::<Figures>(value);
        figures.map_or(Self::default(), |it| Self::of(it.prompt_tokens, it.completion_tokens))
    }

    /// As reported for messages: cached tokens of the prompt are counted separately.
    pub(super) fn of_message(value: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Figures {
            #[serde(default)]
            cache_read_input_tokens: Count,
            #[serde(default)]
            cache_creation_input_tokens: Count,
        }
        let Some(Figures { cache_read_input_tokens: read, cache_creation_input_tokens: creation }) = parse(value)
        else {
            return Self::default();
        };
        Self { cache_read: read.0, cache_creation: creation.0, ..Self::of_input(value) }
    }

    /// As reported for responses: cached tokens are included.
    pub(super) fn of_input(value: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Figures {
            #[serde(default)]
            input_tokens: Count,
            #[serde(default)]
            output_tokens: Count,
        }
        let figures = parse::<Figures>(value);
        figures.map_or(Self::default(), |it| Self::of(it.input_tokens, it.output_tokens))
    }

    /// llama.cpp's own figures.
    pub(super) fn of_timings(value: Option<&RawValue>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Figures {
            #[serde(default)]
            cache_n: Count,
            #[serde(default)]
            prompt_n: Count,
            #[serde(default)]
            predicted_n: Count,
        }
        let Figures { cache_n, prompt_n, predicted_n } = parse(value)?;
        let input = cache_n.0.unwrap_or(0).saturating_add(prompt_n.0.unwrap_or(0));
        Some(Self::of(Count(Some(input)), predicted_n))
    }

    fn of(input: Count, output: Count) -> Self {
        Self { input: input.0, output: output.0, ..Self::default() }
    }

    /// These figures, and the earlier ones if a figure is not reported.
    pub(super) fn or(self, earlier: Self) -> Self {
        Self {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cache_read: self.cache_read.or(earlier.cache_read),
            cache_creation: self.cache_creation.or(earlier.cache_creation),
        }
    }
}

/// A count of tokens; `None` unless the member is an integer of 0 or more.
#[derive(Clone, Copy, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|value| Self(value.get().parse().ok()))
    }
}

/// An event, or the one body, of completions, chat completions or embeddings.
#[derive(Deserialize)]
pub(super) struct OpenAiChunk<'a> {
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) timings: Option<&'a RawValue>,
}

/// An event of messages, or the one body.
#[derive(Deserialize)]
pub(super) struct AnthropicEvent<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// The member with the usage in such an event.
#[derive(Deserialize)]
pub(super) struct AnthropicMessage<'a> {
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// An event of responses.
#[derive(Deserialize)]
pub(super) struct ResponsesEvent<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response: Option<&'a RawValue>,
}

/// A response, in its last event or as the one body.
#[derive(Deserialize)]
pub(super) struct ResponseBody<'a> {
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) status: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// Any JSON object: members that a struct does not name are skipped, and must be well formed.
#[derive(Deserialize)]
pub(super) struct AnyObject {}
