//! The figures that servers report, and the events in which they stand: OpenAI's three kinds of streams and Anthropic's.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::parse;

/// What was counted; none where nothing was said.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
}

impl Usage {
    pub(super) fn is_empty(self) -> bool {
        self.input.is_none() && self.output.is_none()
    }

    /// As completions, chat completions and embeddings report it.
    pub(super) fn of_prompt(value: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Figures {
            #[serde(default)]
            prompt_tokens: Count,
            #[serde(default)]
            completion_tokens: Count,
        }
        let figures = parse::<Figures>(value);
        figures.map_or(Self::default(), |it| Self { input: it.prompt_tokens.0, output: it.completion_tokens.0 })
    }

    /// As messages and responses report it.
    pub(super) fn of_input(value: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Figures {
            #[serde(default)]
            input_tokens: Count,
            #[serde(default)]
            output_tokens: Count,
        }
        let figures = parse::<Figures>(value);
        figures.map_or(Self::default(), |it| Self { input: it.input_tokens.0, output: it.output_tokens.0 })
    }

    /// As llama.cpp counts on its own.
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
        Some(Self { input: Some(input), output: predicted_n.0 })
    }

    /// These figures, and where there is none the earlier ones.
    pub(super) fn or(self, earlier: Self) -> Self {
        Self { input: self.input.or(earlier.input), output: self.output.or(earlier.output) }
    }
}

/// A count of tokens; none where the member is anything but an integer of 0 or more.
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

/// What holds the usage within such an event.
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
