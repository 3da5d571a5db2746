//! Streams that no server should send: they never panic, are bounded, and keep to the order of events.

use proptest::prelude::*;

use super::grammar::{check, events};
use super::stream::translated;
use crate::core::formats::sse::EVENT_LIMIT;
use crate::core::formats::translate::Thinking;
use crate::core::formats::translate::events::LONGEST_EVENT;
use crate::core::formats::usage::Ending;

/// Bytes that come out for each one that comes in, at the most, and for a stream as such: a short chunk that switches
/// between text and thinking makes six events.
const GROWTH: usize = 24;
const FIXED: usize = 2_000;

const LINES: &[&str] = &[
    "",
    "\r\n",
    ": ping\n",
    "event: error\n",
    "data: [DONE]\n\n",
    "data: {}\n\n",
    "data: {\"choices\":[]}\n\n",
    "data: {\"id\":\"i\\n\\\"\",\"choices\":[{\"delta\":{\"content\":\"a\\n\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning\":\"b\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}},{\"delta\":{\"reasoning\":\"b\"}}]}\r\r",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":3,\"function\":{\"arguments\":\"{\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"y\",\"function\":{\"name\":\"g\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"z\"}}]}\n\n",
    "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n",
    "data: {\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":9}}}\n\n",
    "data: {\"error\":{\"message\":\"m\"}}\n\n",
    "data: {\"choices\":\n",
    "data: []}\n\n",
    "data: ",
    "\u{e9}\u{0}",
];

fn line() -> impl Strategy<Value = Vec<u8>> {
    // Mostly lines that are of the format, or a stream would hardly ever come to its end.
    prop_oneof![
        12 => prop::sample::select(LINES).prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_stream_keeps_to_the_grammar_and_the_bound(
        lines in prop::collection::vec(line(), 0..30),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        is_shown in any::<bool>(),
    ) {
        let thinking = if is_shown { Thinking::Shown } else { Thinking::Hidden };
        let stream = lines.concat();
        let whole = translated(&[&stream], thinking);
        check(&events(&whole.0), &whole.1);
        prop_assert!(whole.0.len() <= GROWTH * stream.len() + FIXED);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
        prop_assert_eq!(translated(&pieces, thinking), whole);
    }
}

fn error_of(stream: &[u8]) -> String {
    let (out, ending) = translated(&[stream], Thinking::Shown);
    let events = events(&out);
    check(&events, &ending);
    assert_eq!(ending, Ending::Unread);
    events.last().unwrap().1["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_event_that_is_too_long_fails_the_stream_though_its_end_mark_comes_at_once() {
    let long = "x".repeat(LONGEST_EVENT);
    let stream = format!("data: {{}}\n\ndata: {{\"id\":\"{long}\"}}\n\ndata: [DONE]\n\n");
    assert_eq!(error_of(stream.as_bytes()), "the response of the model's server is too large");
    for cut in [1, stream.len() - 20, stream.len() - 1] {
        let (left, right) = stream.as_bytes().split_at(cut);
        let pieces = translated(&[left, right], Thinking::Shown);
        assert_eq!(pieces, translated(&[stream.as_bytes()], Thinking::Shown));
    }
}

#[test]
fn an_answer_may_come_in_one_long_event() {
    let long = "x".repeat(3 * EVENT_LIMIT);
    let stream = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\ndata: [DONE]\n\n");
    let (out, ending) = translated(&stream.as_bytes().chunks(60_000).collect::<Vec<_>>(), Thinking::Shown);
    check(&events(&out), &ending);
    assert!(matches!(ending, Ending::Complete { .. }), "{ending:?}");
    assert!(out.len() > long.len());
}

#[test]
fn what_is_held_back_is_bounded() {
    let too_large = "the response of the model's server is too large";
    let first = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\"}}]}}]}\n\n";
    let long = "x".repeat(1_000_000);
    let text = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\n");
    assert_eq!(error_of([first, &text.repeat(5)].concat().as_bytes()), too_large);
    let second = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":1,\"function\":{{\"arguments\":\"{long}\"}}}}]}}}}]}}\n\n"
    );
    assert_eq!(error_of([first, &second.repeat(5)].concat().as_bytes()), too_large);
    let beyond = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":256}]}}]}\n\n";
    assert_eq!(error_of(beyond.as_bytes()), too_large);
}

#[test]
fn a_long_call_that_is_passed_on_as_it_comes_is_not_held_back() {
    let first = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\"}}]}}]}\n\n";
    let long = "x".repeat(1_000_000);
    let piece = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":\"{long}\"}}}}]}}}}]}}\n\n"
    );
    let stream = [first, &piece.repeat(6), "data: [DONE]\n\n"].concat();
    let (out, ending) = translated(&[stream.as_bytes()], Thinking::Shown);
    check(&events(&out), &ending);
    assert!(matches!(ending, Ending::Complete { .. }));
}
