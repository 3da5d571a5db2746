//! Estimates a job's tokens before it runs.
//!
//! A prompt counts as one token for every four bytes, rounded up. The members of the request that become the prompt are
//! counted as spelled, including JSON's own characters. An answer counts as long as the request allows, times the requested
//! choices and the prompts of a batch; [`ANSWER`] if the request sets no bound; at most the model's context; nothing for
//! embeddings. The positions of the request's members were recorded when it was received, so the request is not parsed
//! again, except the first prompts of a batch. Used by the router.

use crate::core::formats::policy::{self, MOST_CHOICES};
use crate::core::json::{Malformed, Members, name_of};
use crate::messages::endpoint::Endpoint;

/// Bytes of a prompt that count as one token.
const TOKEN: u64 = 4;
/// Tokens of an answer if the request sets no bound: more than most answers have. A server would generate up to the whole
/// context, but a reservation of that size would leave an agent with a budget idle.
pub(crate) const ANSWER: u64 = 1024;
/// The parts of a request that determine its tokens. It has no `Debug`, because it contains a prompt.
#[derive(Clone, Copy)]
pub(crate) struct Outline<'a> {
    /// The value that holds the conversation or the text, as spelled; empty if there is none.
    pub prompt: &'a [u8],
    /// Bytes of all members that become the prompt.
    prompt_bytes: u64,
    /// The bound on the answer: the largest of the given ones.
    max_tokens: Option<u64>,
    choices: u64,
    /// The number of prompts of a batch.
    prompts: u64,
}

/// Tokens that a job may use. The default, for a request that was not read: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Of the prompt.
    pub prompt: u64,
    /// Of one answer. Prompt and answer must fit the context.
    pub answer: u64,
    /// The number of answers.
    pub choices: u64,
}

impl<'a> Outline<'a> {
    /// Reads the outline of a request with these members.
    pub(crate) fn of(request: &'a [u8], members: &Members) -> Result<Self, Malformed> {
        let mut outline = Self { prompt: &[], prompt_bytes: 0, max_tokens: None, choices: 1, prompts: 1 };
        members.walk(request, |key, value| match &*name_of(key) {
            name @ (b"messages" | b"prompt" | b"input") => {
                outline.prompt = value;
                outline.count(value);
                if name == b"prompt" {
                    outline.prompts = outline.prompts.max(policy::inputs(value, MOST_CHOICES));
                }
            }
            b"system" | b"instructions" | b"tools" | b"functions" => outline.count(value),
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                outline.max_tokens = outline.max_tokens.max(number(value));
            }
            b"n" | b"best_of" => outline.choices = outline.choices.max(policy::choices(value).unwrap_or(1)),
            _ => {}
        })?;
        Ok(outline)
    }

    /// The estimate for an endpoint of a model with this context, if that is known.
    pub(crate) fn estimate(&self, endpoint: Endpoint, context_window: Option<u64>) -> Estimate {
        let prompt = self.prompt_bytes.div_ceil(TOKEN);
        let answer = match endpoint {
            Endpoint::Embeddings => 0,
            _ => self.max_tokens.unwrap_or(ANSWER).min(context_window.unwrap_or(u64::MAX)),
        };
        let prompts = if endpoint == Endpoint::Completions { self.prompts } else { 1 };
        // A request for more choices is refused.
        Estimate { prompt, answer, choices: self.choices.saturating_mul(prompts).min(MOST_CHOICES) }
    }

    fn count(&mut self, value: &[u8]) {
        self.prompt_bytes = self.prompt_bytes.saturating_add(u64::try_from(value.len()).unwrap_or(u64::MAX));
    }
}

impl Estimate {
    /// Of all answers.
    pub(crate) fn answers(self) -> u64 {
        self.answer.saturating_mul(self.choices)
    }

    /// Of the prompt and one answer: what must fit the context.
    pub(crate) fn context(self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }
}

/// A number as a count, rounded up. `None`: another value, or a negative one.
fn number(value: &[u8]) -> Option<u64> {
    let number: f64 = serde_json::from_slice(value).ok()?;
    // The cast saturates.
    (number >= 0.0).then(|| number.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::messages::wire::FromCoordinator;

    fn estimate(request: &str) -> (u64, u64, u64) {
        let Ok(outline) = Outline::of(request.as_bytes(), &Members::default()) else { panic!("no outline") };
        let Estimate { prompt, answer, choices } = outline.estimate(Endpoint::ChatCompletions, Some(10_000));
        (prompt, answer, choices)
    }

    #[test]
    fn a_prompt_has_a_token_for_every_four_bytes_rounded_up() {
        for (request, prompt) in [
            (r#"{"prompt":"12"}"#, 1),
            (r#"{"prompt":"123"}"#, 2),
            (r#"{"input":["1","2"]}"#, 3),
            (r#"{"messages":[12345],"system":"12","tools":[1,2,3]}"#, 5),
            (r#"{"\u0070rompt":"123456"}"#, 2),
            (r#"{"temperature":1,"user":"somebody with a long name"}"#, 0),
        ] {
            assert_eq!(estimate(request), (prompt, ANSWER, 1), "{request}");
        }
    }

    #[test]
    fn an_answer_is_as_long_as_allowed_up_to_the_context() {
        for (request, answer) in [
            (r#"{"max_tokens":7}"#, 7),
            (r#"{"max_completion_tokens":8}"#, 8),
            (r#"{"max_output_tokens":9}"#, 9),
            (r#"{"max_tokens":7,"max_completion_tokens":6}"#, 7),
            (r#"{"max_tokens":0}"#, 0),
            (r#"{"max_tokens":6.5}"#, 7),
            (r#"{"max_tokens":1e30}"#, 10_000),
            (r#"{"max_tokens":-1}"#, ANSWER),
            (r#"{"max_tokens":null}"#, ANSWER),
            (r#"{"max_tokens":"7"}"#, ANSWER),
        ] {
            assert_eq!(estimate(request), (0, answer, 1), "{request}");
        }
    }

    #[test]
    fn each_choice_is_an_answer_and_embeddings_have_none() {
        assert_eq!(estimate(r#"{"n":3,"max_tokens":10}"#), (0, 10, 3));
        assert_eq!(estimate(r#"{"n":1e9,"max_tokens":10}"#), (0, 10, MOST_CHOICES));
        assert_eq!(estimate(r#"{"n":0,"max_tokens":10}"#), (0, 10, 1));
        let embeddings = Outline::of(br#"{"input":"123456"}"#, &Members::default())
            .map(|o| o.estimate(Endpoint::Embeddings, None))
            .map(|estimate| (estimate.prompt, estimate.answers()));
        assert_eq!(embeddings, Ok((2, 0)));
        let huge = Estimate { prompt: u64::MAX, answer: u64::MAX, choices: 128 };
        assert_eq!((huge.answers(), huge.context()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_batch_of_completions_has_an_answer_for_each_choice_of_each_prompt() {
        let request = br#"{"prompt":["a","b"],"n":2,"best_of":3,"max_tokens":10}"#;
        let estimated = |endpoint| {
            let Ok(outline) = Outline::of(request, &Members::default()) else { panic!("no outline") };
            outline.estimate(endpoint, None).choices
        };
        assert_eq!((estimated(Endpoint::Completions), estimated(Endpoint::ChatCompletions)), (6, 3));
        assert_eq!(estimate(r#"{"best_of":3,"n":1,"max_tokens":10}"#), (0, 10, 3));
    }

    #[test]
    fn the_members_that_were_noted_on_receipt_have_the_same_outline() {
        let request = r#"{"n":2, "messages":["12345678"], "max_tokens":5}"#;
        let frame = format!(
            r#"{{"type":"job","job_id":"00000000-0000-0000-0000-000000000001","model_id":"m","request":{request}}}"#
        );
        let Ok(FromCoordinator::Job(job)) = FromCoordinator::parse(&frame.into()) else { panic!("no job") };
        let outlines = [&job.members, &Members::default()].map(|members| {
            let Ok(outline) = Outline::of(&job.request, members) else { panic!("no outline") };
            (outline.prompt, outline.estimate(job.endpoint, None))
        });
        assert_eq!(outlines[0], (&br#"["12345678"]"#[..], Estimate { prompt: 3, answer: 5, choices: 2 }));
        assert_eq!(outlines[0], outlines[1]);
    }

    proptest! {
        #[test]
        fn any_text_has_an_outline_or_none(request in "[\\[\\]{}\",:n1]{0,40}") {
            let _ = Outline::of(request.as_bytes(), &Members::default());
        }
    }
}
