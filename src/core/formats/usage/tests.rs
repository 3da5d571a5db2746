//! Endings and figures of made-up streams; the recorded ones are in `recorded_tests.rs`.

use super::{BackendFault, Ending, ResponseScan};
use crate::core::formats::error_body::ERROR_BODY_LIMIT;
use crate::core::formats::sse::EVENT_LIMIT;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

fn openai(events: &[&str]) -> Ending {
    let mut scan = ResponseScan::new(Endpoint::ChatCompletions);
    for data in events {
        scan.feed(format!("data: {data}\n\n").as_bytes());
    }
    scan.finish()
}

fn anthropic(events: &[&str]) -> Ending {
    let mut scan = ResponseScan::new(Endpoint::Messages);
    for data in events {
        scan.feed(format!("event: x\ndata: {data}\n\n").as_bytes());
    }
    scan.finish()
}

fn responses(events: &[&str]) -> Ending {
    let mut scan = ResponseScan::new(Endpoint::Responses);
    for data in events {
        scan.feed(format!("data: {data}\n\n").as_bytes());
    }
    scan.finish()
}

fn complete(input: u64, output: u64) -> Ending {
    Ending::Complete { tokens: Tokens::new(input, output) }
}

fn complete_cached(input: u64, cached: u64, output: u64) -> Ending {
    Ending::Complete { tokens: Tokens { cached: Some(cached), ..Tokens::new(input, output) } }
}

fn failed(label: &str) -> Ending {
    Ending::Failed(BackendFault { label: Some(label.to_owned()) })
}

fn label(body: &str) -> Option<String> {
    BackendFault::from_body(body.as_bytes()).label
}

#[test]
fn the_last_usage_counts() {
    let usage = |input, output| format!(r#"{{"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#);
    assert_eq!(openai(&[&usage(7, 1), &usage(7, 2), "[DONE]"]), complete(7, 2));
    assert_eq!(openai(&[&usage(7, 2), r#"{"usage":null}"#, r#"{"usage":{}}"#, "[DONE]"]), complete(7, 2));
    assert_eq!(openai(&[&usage(7, 2), "[DONE]", &usage(9, 9)]), complete(7, 2));
}

#[test]
fn a_figure_that_is_no_count_is_0() {
    let wrong = ["-1", "1e30", "1.5", "2.0", "\"7\"", "null", "true", "[7]", "{}", "18446744073709551616"];
    for wrong in wrong {
        let event = format!(r#"{{"usage":{{"prompt_tokens":{wrong},"completion_tokens":3}}}}"#);
        assert_eq!(openai(&[&event, "[DONE]"]), complete(0, 3), "{wrong}");
        let event = format!(r#"{{"type":"message_delta","usage":{{"input_tokens":4,"output_tokens":{wrong}}}}}"#);
        assert_eq!(anthropic(&[&event, r#"{"type":"message_stop"}"#]), complete(4, 0), "{wrong}");
    }
    for usage in ["[4,3]", "7", "\"x\""] {
        assert_eq!(openai(&[&format!(r#"{{"usage":{usage}}}"#), "[DONE]"]), complete(0, 0), "{usage}");
    }
}

#[test]
fn timings_are_used_if_there_is_no_usage() {
    let timings = r#"{"timings":{"cache_n":35,"prompt_n":1,"predicted_n":12,"prompt_ms":0.5}}"#;
    let usage = r#"{"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
    assert_eq!(openai(&[timings, "[DONE]"]), complete_cached(36, 35, 12));
    assert_eq!(openai(&[usage, timings, "[DONE]"]), complete(5, 6));
    let huge = format!(r#"{{"timings":{{"cache_n":{},"prompt_n":9}}}}"#, u64::MAX);
    assert_eq!(openai(&[&huge, "[DONE]"]), complete_cached(u64::MAX, u64::MAX, 0));
}

#[test]
fn cached_tokens_of_a_prompt_are_part_of_its_input() {
    let chunk = |details: &str| {
        format!(r#"{{"usage":{{"prompt_tokens":9,"completion_tokens":6,"prompt_tokens_details":{details}}}}}"#)
    };
    assert_eq!(openai(&[&chunk(r#"{"cached_tokens":8}"#), "[DONE]"]), complete_cached(9, 8, 6));
    for unreported in ["null", "7", "{}", "[8]", r#"{"cached_tokens":null}"#, r#"{"cached_tokens":-1}"#] {
        assert_eq!(openai(&[&chunk(unreported), "[DONE]"]), complete(9, 6), "{unreported}");
    }
    let usage = r#"{"input_tokens":5,"output_tokens":9,"input_tokens_details":{"cached_tokens":4}}"#;
    let last = format!(r#"{{"type":"response.completed","response":{{"usage":{usage}}}}}"#);
    assert_eq!(responses(&[&last]), complete_cached(5, 4, 9));
}

#[test]
fn figures_of_a_message_come_from_its_start_and_its_delta() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    let delta = |usage| format!(r#"{{"type":"message_delta","usage":{usage}}}"#);
    assert_eq!(anthropic(&[start, &delta(r#"{"output_tokens":9}"#), stop]), complete(5, 9));
    assert_eq!(anthropic(&[start, &delta(r#"{"input_tokens":6,"output_tokens":9}"#), stop]), complete(6, 9));
    assert_eq!(anthropic(&[start, &delta(r#"{"input_tokens":null}"#), stop]), complete(5, 1));
    assert_eq!(anthropic(&[start]), Ending::Truncated);
}

#[test]
fn a_cached_prompt_counts_as_input() {
    let stop = r#"{"type":"message_stop"}"#;
    let start = |usage| format!(r#"{{"type":"message_start","message":{{"usage":{usage}}}}}"#);
    let cached = start(r#"{"input_tokens":1,"cache_read_input_tokens":9999,"cache_creation_input_tokens":20}"#);
    let delta = r#"{"type":"message_delta","usage":{"output_tokens":7}}"#;
    assert_eq!(anthropic(&[&cached, delta, stop]), complete_cached(10_020, 9999, 7));
    let again = r#"{"type":"message_delta","usage":{"input_tokens":2,"cache_read_input_tokens":30,"output_tokens":7}}"#;
    assert_eq!(anthropic(&[&cached, again, stop]), complete_cached(52, 30, 7), "each figure is the last one reported");
    let huge = start(r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":9}"#);
    assert_eq!(anthropic(&[&huge, stop]), complete_cached(u64::MAX, 9, 0));
    assert_eq!(anthropic(&[&start(r#"{"cache_read_input_tokens":9}"#), stop]), complete_cached(9, 9, 0));
    // Responses already count cached tokens.
    let usage = r#"{"input_tokens":5,"output_tokens":9,"cache_read_input_tokens":4}"#;
    let last = format!(r#"{{"type":"response.completed","response":{{"usage":{usage}}}}}"#);
    assert_eq!(responses(&[&last]), complete(5, 9));
    let mut tally = super::Tally::new(Endpoint::Messages);
    tally.take_whole(br#"{"type":"message","usage":{"input_tokens":1,"cache_read_input_tokens":6,"output_tokens":2}}"#);
    assert_eq!(tally.ending(), complete_cached(7, 6, 2));
}

/// An event of responses whose `metadata` alone is longer than the part of an event that is read at once.
fn long_event(kind: &str, behind: &str) -> String {
    let metadata = "\\\"{usage}".repeat(2 * EVENT_LIMIT / 10);
    format!(
        "event: {kind}\ndata: {{\"type\":\"{kind}\",\"response\":{{\"metadata\":{{\"a\":\"{metadata}\",\"usage\":{{\"input_tokens\":99}}}},\"status\":\"x\",\"error\":null{behind}}}}}\n\n"
    )
}

#[test]
fn a_long_event_ends_a_response_too() {
    let usage = r#","usage":{"input_tokens":5,"output_tokens":9},"tools":[{"usage":1}]"#;
    for (stream, ending) in [
        (long_event("response.completed", usage), complete(5, 9)),
        (long_event("response.incomplete", usage), complete(5, 9)),
        (long_event("response.completed", ""), complete(0, 0)),
        (long_event("response.created", usage), Ending::Truncated),
        (long_event("response.failed", r#","status":"failed","code":"busy""#), failed("busy")),
    ] {
        for cut in [1000, 1 << 16, stream.len()] {
            let mut scan = ResponseScan::new(Endpoint::Responses);
            stream.as_bytes().chunks(cut).for_each(|piece| scan.feed(piece));
            assert_eq!(scan.finish(), ending, "{:.40} in pieces of {cut}", stream);
        }
    }
}

#[test]
fn a_long_event_is_read_however_its_end_is_cut_into_pieces() {
    let stream = long_event("response.completed", r#","usage":{"input_tokens":5,"output_tokens":9}"#);
    for at in (EVENT_LIMIT - 30..EVENT_LIMIT + 30).step_by(3).chain(stream.len() - 90..stream.len()).step_by(3) {
        let (left, right) = stream.as_bytes().split_at(at);
        let mut scan = ResponseScan::new(Endpoint::Responses);
        scan.feed(left);
        scan.feed(right);
        assert_eq!(scan.finish(), complete(5, 9), "cut at {at}");
    }
    let whole = stream.trim_end().len();
    for cut_off in [whole - 1, whole - 20, EVENT_LIMIT + 9] {
        let mut scan = ResponseScan::new(Endpoint::Responses);
        scan.feed(&stream.as_bytes()[..cut_off]);
        assert_ne!(scan.finish(), complete(5, 9), "the end is missing");
    }
}

#[test]
fn figures_of_long_events_of_other_endpoints_are_read() {
    let long = "x".repeat(2 * EVENT_LIMIT);
    let chunk = format!(r#"{{"x":"{long}","usage":{{"prompt_tokens":7,"completion_tokens":2}}}}"#);
    assert_eq!(openai(&[&chunk, "[DONE]"]), complete(7, 2));
    let start = format!(r#"{{"message":{{"x":"{long}","usage":{{"input_tokens":4}}}},"type":"message_start"}}"#);
    assert_eq!(anthropic(&[&start, r#"{"type":"message_stop"}"#]), complete(4, 0));
    let error = format!(r#"{{"x":"{long}","error":{{"type":"busy"}}}}"#);
    assert_eq!(openai(&[&error, "[DONE]"]), failed("busy"));
}

#[test]
fn a_response_that_ends_after_an_unreadable_long_event_is_unread_and_not_truncated() {
    let long = "x".repeat(2 * EVENT_LIMIT);
    assert_eq!(responses(&[&long]), Ending::Unread);
    assert_eq!(openai(&[&long, "[DONE]"]), complete(0, 0));
    assert_eq!(openai(&["{}"]), Ending::Truncated);
}

#[test]
fn an_error_event_fails_the_response_whatever_follows() {
    let error = r#"{"error":{"message":"m","type":"server_error","code":500}}"#;
    assert_eq!(openai(&[error, "[DONE]"]), failed("server_error"));
    assert_eq!(openai(&[r#"{"object":"error","type":"BadRequestError"}"#, "[DONE]"]), failed("BadRequestError"));
    assert_eq!(openai(&[r#"{"error":null}"#, "[DONE]"]), complete(0, 0));
    let stop = r#"{"type":"message_stop"}"#;
    assert_eq!(anthropic(&[error, stop]), failed("server_error"));
    let wrapped = r#"{"type": "error", "error": {"type": "overloaded_error", "message": "m"}}"#;
    assert_eq!(anthropic(&[wrapped, stop]), failed("overloaded_error"));
}

#[test]
fn a_response_ends_with_its_last_event() {
    let last = |kind: &str, response: &str| format!(r#"{{"type":"response.{kind}","response":{response}}}"#);
    let usage = r#"{"status":"x","error":null,"usage":{"input_tokens":5,"output_tokens":9}}"#;
    assert_eq!(responses(&[&last("completed", usage)]), complete(5, 9));
    assert_eq!(responses(&[&last("incomplete", usage), "[DONE]"]), complete(5, 9));
    assert_eq!(responses(&[&last("completed", "{}")]), complete(0, 0));
    assert_eq!(responses(&[&last("created", usage), &last("in_progress", usage), "[DONE]"]), Ending::Truncated);
    let broken = r#"{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"},"usage":null}"#;
    for kind in ["failed", "completed"] {
        assert_eq!(responses(&[&last(kind, broken), &last("completed", usage)]), failed("rate_limit_exceeded"));
    }
    let event = r#"{"type":"error","code":"server_error","message":"m","param":null,"sequence_number":3}"#;
    assert_eq!(responses(&[event, &last("completed", usage)]), failed("server_error"));
    assert_eq!(responses(&[r#"{"error":{"type":"overloaded","code":null}}"#]), failed("overloaded"));
    let text = r#"{"type":"response.output_text.delta","delta":"\"response.completed\" \"error\""}"#;
    assert_eq!(responses(&[text]), Ending::Truncated);
}

#[test]
fn a_whole_body_is_read_by_its_endpoint() {
    let whole = |endpoint, body: &str| {
        let mut tally = super::Tally::new(endpoint);
        tally.take_whole(body.as_bytes());
        tally.ending()
    };
    let embeddings = r#"{"object":"list","data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    assert_eq!(whole(Endpoint::Embeddings, embeddings), complete(7, 0));
    let response = r#"{"object":"response","status":"incomplete","usage":{"input_tokens":3,"output_tokens":4}}"#;
    assert_eq!(whole(Endpoint::Responses, response), complete(3, 4));
    let broken = r#"{"object":"response","status":"failed","error":{"code":"server_error"}}"#;
    assert_eq!(whole(Endpoint::Responses, broken), failed("server_error"));
    for endpoint in Endpoint::ALL {
        assert_eq!(whole(endpoint, r#"{"error":{"type":"busy"}}"#), failed("busy"));
        assert_eq!(whole(endpoint, "{}"), complete(0, 0));
        for broken in ["", "[]", "{", "{}}", "data: {}", "null"] {
            assert_eq!(whole(endpoint, broken), Ending::Truncated, "{broken}");
        }
    }
}

#[test]
fn an_event_named_error_fails_the_response_whatever_it_holds() {
    for endpoint in Endpoint::ALL {
        let mut scan = ResponseScan::new(endpoint);
        scan.feed(b"event: error\ndata: out of memory\n\ndata: [DONE]\n\ndata: {\"type\":\"message_stop\"}\n\n");
        assert_eq!(scan.finish(), Ending::Failed(BackendFault { label: None }));
    }
}

#[test]
fn generated_text_is_not_a_mark() {
    let text = r#"{"choices":[{"delta":{"content":"{\"error\":{}} [DONE] \"usage\" message_stop"}}]}"#;
    assert_eq!(openai(&[text]), Ending::Truncated);
    let text = r#"{"type":"content_block_delta","delta":{"text":"message_stop","error":1,"usage":1}}"#;
    assert_eq!(anthropic(&[text]), Ending::Truncated);
}

#[test]
fn the_end_mark_of_one_format_does_not_end_another() {
    assert_eq!(openai(&[r#"{"type":"message_stop"}"#]), Ending::Truncated);
    assert_eq!(anthropic(&["[DONE]"]), Ending::Truncated);
}

#[test]
fn is_complete_is_true_as_soon_as_the_end_mark_is_received() {
    let mut scan = ResponseScan::new(Endpoint::ChatCompletions);
    scan.feed(b"data: [DONE]");
    assert!(!scan.is_over());
    scan.feed(b"\n\n");
    assert!(scan.is_over());
}

#[test]
fn deep_nesting_is_handled() {
    let deep = "[".repeat(500_000) + &"]".repeat(500_000);
    assert_eq!(openai(&[&format!(r#"{{"usage":{deep}}}"#), "[DONE]"]), complete(0, 0));
    let open = "{\"error\":".repeat(5_000);
    assert_eq!(openai(&[&open]), Ending::Truncated);
    assert_eq!(label(&open), None);
    assert_eq!(label(&format!(r#"{{"error":{{"type":{}1{}}}}}"#, "[".repeat(9_999), "]".repeat(9_999))), None);
}

#[test]
fn a_fault_has_the_most_specific_label() {
    for (body, expected) in [
        (r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#, Some("model_not_found")),
        (r#"{"error":{"type":"exceed_context_size_error","code":400}}"#, Some("exceed_context_size_error")),
        (r#"{"error":{"type":"internal_server_error","code":"500"}}"#, Some("internal_server_error")),
        (r#"{"error":{"type":null,"code":"500"}}"#, Some("500")),
        (r#"{"error":{"message":"m","code":429}}"#, Some("429")),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, Some("overloaded_error")),
        (r#"{"object":"error","message":"m","type":"NotFoundError","code":404}"#, Some("NotFoundError")),
        (r#"{"detail":[{"type":"missing","loc":["body"],"msg":"m"}]}"#, Some("missing")),
        (r#"{"detail":{"error":{"type":"model_not_loaded"}}}"#, Some("model_not_loaded")),
        (r#"{"detail":{"code":"busy"}}"#, Some("busy")),
        (r#"{"detail":"a prompt"}"#, None),
        (r#"{"error":"a-prompt"}"#, None),
        (r#"{"error":{"type":"two words","code":null}}"#, None),
        (r#"{"error":{"type":"escaped\u0041"}}"#, None),
        (r#"{"error":{"type":{"a":1},"code":true}}"#, None),
        (r#"["a","b","c","d"]"#, None),
        ("Internal Server Error", None),
        ("", None),
    ] {
        assert_eq!(label(body).as_deref(), expected, "{body}");
    }
    assert_eq!(label(&format!(r#"{{"error":{{"type":"{}"}}}}"#, "a".repeat(64))), Some("a".repeat(64)));
    assert_eq!(label(&format!(r#"{{"error":{{"type":"{}"}}}}"#, "a".repeat(65))), None);
    assert_eq!(label(&format!(r#"{{"error":{{"type":"a"}},"x":"{}"}}"#, "x".repeat(ERROR_BODY_LIMIT))), None);
}

#[test]
fn a_missing_model_is_distinguished_from_other_faults() {
    let missing = |label: &str| BackendFault { label: Some(label.to_owned()) }.is_model_missing();
    assert!(missing("model_not_found") && missing("not_found_error") && missing("NotFoundError"));
    assert!(!missing("invalid_request_error") && !missing("404"));
    assert!(!BackendFault { label: None }.is_model_missing());
}

#[test]
fn no_other_member_hides_the_usage_of_a_message() {
    let mut scan = ResponseScan::new(Endpoint::Messages);
    for data in [
        // A member twice.
        &br#"{"type":"message_start","message":{"id":"m","model":"x","model":"x","usage":{"input_tokens":9}}}"#[..],
        // A text that is not UTF-8, and an index that is not a number.
        b"{\"type\":\"message_delta\",\"index\":\"0\",\"delta\":{\"stop_sequence\":\"\xe2\x82\"},\"usage\":{\"output_tokens\":7}}",
        br#"{"type":"message_stop"}"#,
    ] {
        scan.feed(&[b"data: ", data, b"\n\n"].concat());
    }
    assert_eq!(scan.finish(), complete(9, 7));
}
