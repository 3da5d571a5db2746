//! Bodies, compared with the same edit of a parsed value.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{RequestError, backend_body, body_len};
use crate::core::formats::policy::{RemoteMedia, RequestPolicy};
use crate::core::json::Members;
use crate::messages::backend::BackendKind;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;

/// The policy that changes the least.
fn policy() -> RequestPolicy {
    RequestPolicy::new(BackendKind::Vllm, RemoteMedia::Refused)
}

fn body(request: &str, endpoint: Endpoint) -> Result<String, RequestError> {
    body_for(BackendKind::Vllm, request, endpoint)
}

fn body_for(kind: BackendKind, request: &str, endpoint: Endpoint) -> Result<String, RequestError> {
    let (request, model) = (Bytes::from(request.to_owned()), ModelId::from("the-model"));
    let policy = RequestPolicy::new(kind, RemoteMedia::Refused);
    let pieces = backend_body(&request, &Members::default(), &model, endpoint, &policy)?;
    let joined = pieces.concat();
    assert_eq!(joined.len(), body_len(&pieces));
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
    Ok(String::from_utf8(joined).unwrap())
}

fn edited(request: &str, endpoint: Endpoint) -> Value {
    let mut value: Value = serde_json::from_str(request).unwrap();
    value["model"] = json!("the-model");
    if endpoint == Endpoint::Embeddings {
        value.as_object_mut().unwrap().remove("stream");
    } else {
        value["stream"] = json!(true);
    }
    if endpoint == Endpoint::Responses {
        value["store"] = json!(false);
    }
    if matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
        if !value["stream_options"].is_object() {
            value["stream_options"] = json!({});
        }
        value["stream_options"]["include_usage"] = json!(true);
    }
    value
}

#[test]
fn members_keep_their_spelling_and_their_order() {
    let request =
        r#" { "model" : "x", "z":[1.0,1e2 ,  {"b":"\u0061"}],"stream":false , "a\u0062":-0 , "temperature":0.10 } "#;
    let expected =
        r#"{"z":[1.0,1e2 ,  {"b":"\u0061"}],"a\u0062":-0,"temperature":0.10,"model":"the-model","stream":true}"#;
    assert_eq!(body(request, Endpoint::Messages).unwrap(), expected);
}

#[test]
fn usage_is_requested_and_other_stream_options_are_kept() {
    let tail = |options| format!(r#"{{"model":"the-model","stream":true,"stream_options":{options}}}"#);
    for (given, expected) in [
        (r#"{}"#, r#"{"include_usage":true}"#),
        (r#"{"stream_options":null}"#, r#"{"include_usage":true}"#),
        (r#"{"stream_options":["include_usage",false]}"#, r#"{"include_usage":true}"#),
        (r#"{"stream_options": { "include_usage":false,"x":[ 1 ] } }"#, r#"{"x":[ 1 ],"include_usage":true}"#),
        (r#"{"stream_options":{"include_\u0075sage":0,"include_usage":1}}"#, r#"{"include_usage":true}"#),
        (r#"{"stream_options":{"x":1},"stream_options":{"y":2}}"#, r#"{"y":2,"include_usage":true}"#),
    ] {
        assert_eq!(body(given, Endpoint::ChatCompletions).unwrap(), tail(expected), "{given}");
    }
    assert_eq!(body("{}", Endpoint::Completions).unwrap(), tail(r#"{"include_usage":true}"#));
    let untouched = r#"{"stream_options":null,"model":"the-model","stream":true}"#;
    let stored = untouched.replace('}', r#","store":false}"#);
    assert_eq!(body(r#"{"stream_options":null}"#, Endpoint::Responses).unwrap(), stored);
    assert_eq!(body(r#"{"stream_options":null}"#, Endpoint::Messages).unwrap(), untouched);
}

#[test]
fn embeddings_are_not_requested_as_a_stream() {
    let request = r#"{"input":["a","b"],"stream":true,"encoding_format":"base64","s\u0074ream":false}"#;
    let expected = r#"{"input":["a","b"],"encoding_format":"base64","model":"the-model"}"#;
    assert_eq!(body(request, Endpoint::Embeddings).unwrap(), expected);
}

#[test]
fn another_spelling_of_a_set_member_is_removed() {
    let request =
        r#"{"model":1,"mod\u0065l":"y","stream":0,"\u0073tream":false,"model":"z","stream_\u006fptions":7,"n":1}"#;
    let expected = r#"{"n":1,"model":"the-model","stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(body(request, Endpoint::ChatCompletions).unwrap(), expected);
}

#[test]
fn only_the_priced_model_can_be_requested() {
    let request =
        r#"{"models":["dear"],"n":1,"fallbacks":[{"x":["dear"]}],"pro\u0076ider":{},"plugins":[{"id":"web"}]}"#;
    let expected = r#"{"n":1,"model":"the-model","stream":true}"#;
    assert_eq!(body(request, Endpoint::Messages).unwrap(), expected);
}

#[test]
fn a_service_gets_listed_members_and_parts_of_them() {
    let chat = r#"{"messages":[],"web_search_options":{},"temperature":1,"api_base":"http://x",
        "venice_parameters":{"enable_web_search":"on","disable_th\u0069nking":true},"modalities":["audio"]}"#;
    let expected = r#"{"messages":[],"temperature":1,"venice_parameters":{"disable_th\u0069nking":true},"model":"the-model","stream":true,"stream_options":{"include_usage":true}}"#;
    for kind in [BackendKind::Venice, BackendKind::OpenRouter, BackendKind::LiteLlm, BackendKind::OpenAi] {
        assert_eq!(body_for(kind, chat, Endpoint::ChatCompletions).unwrap(), expected, "{kind}");
    }
    let messages = r#"{"metadata":{"user_id":"u","tags":["t"]},"service_tier":"priority"}"#;
    let expected = r#"{"metadata":{"user_id":"u"},"model":"the-model","stream":true}"#;
    assert_eq!(body_for(BackendKind::LiteLlm, messages, Endpoint::Messages).unwrap(), expected);
    let template = r#"{"chat_template_kwargs":{"enable_thinking":false,"chat_templ\u0061te":"{{ 1 }}"}}"#;
    let expected = r#"{"chat_template_kwargs":{"enable_thinking":false},"model":"the-model","stream":true,"stream_options":{"include_usage":true}}"#;
    for kind in BackendKind::ALL {
        assert_eq!(body_for(kind, template, Endpoint::ChatCompletions).unwrap(), expected, "{kind}");
    }
    let no_object = body_for(BackendKind::LiteLlm, r#"{"metadata":"x"}"#, Endpoint::Messages).unwrap();
    assert_eq!(no_object, r#"{"model":"the-model","stream":true}"#);
}

#[test]
fn a_response_is_never_kept_at_the_backend() {
    for request in [r#"{"store":true}"#, r#"{"st\u006fre":true,"store":null}"#, "{}"] {
        for kind in BackendKind::ALL {
            let expected = r#"{"model":"the-model","stream":true,"store":false}"#;
            assert_eq!(body_for(kind, request, Endpoint::Responses).unwrap(), expected, "{kind} {request}");
        }
    }
}

#[test]
fn a_key_that_only_looks_like_one_stays() {
    let request = r#"{"models_":1,"model ":2,"\"model\"":3,"\ud800":4,"model":5}"#;
    let expected = r#"{"models_":1,"model ":2,"\"model\"":3,"\ud800":4,"model":"the-model","stream":true}"#;
    assert_eq!(body(request, Endpoint::Messages).unwrap(), expected);
}

#[test]
fn a_value_that_is_not_an_object_is_refused() {
    for request in ["{", "{}{}", "{} x", r#"{"a"}"#, r#"{"a":}"#, r#"{a:1}"#, r#"{"a":1,}"#, r#"{1:2}"#] {
        assert_eq!(body(request, Endpoint::ChatCompletions).unwrap_err(), RequestError::NotJson, "{request}");
    }
    for request in ["", "[]", "null", "7", "\"x\"", r#"[["a",1]]"#] {
        assert_eq!(body(request, Endpoint::ChatCompletions).unwrap_err(), RequestError::NotAnObject, "{request}");
    }
}

#[test]
fn a_model_name_is_escaped() {
    let (request, model) = (Bytes::from_static(b"{}"), ModelId::from("a\"b\n"));
    let pieces = backend_body(&request, &Members::default(), &model, Endpoint::Messages, &policy()).unwrap();
    assert_eq!(pieces.concat(), br#"{"model":"a\"b\n","stream":true}"#);
}

#[test]
fn a_big_prompt_is_not_copied() {
    let prompt = format!(r#""{}""#, "x".repeat(2_000_000));
    let request = Bytes::from(format!(r#"{{"model":"m","prompt":{prompt},"stream_options":{{"x":{prompt}}},"n":1}}"#));
    let range = request.as_ptr_range();
    let (members, model) = (Members::default(), ModelId::from("m"));
    let pieces = backend_body(&request, &members, &model, Endpoint::ChatCompletions, &policy()).unwrap();
    let big: Vec<_> = pieces.iter().filter(|piece| piece.len() >= prompt.len()).collect();
    assert_eq!(big.len(), 2);
    assert!(big.iter().all(|piece| range.contains(&piece.as_ptr()) && ***piece == *prompt.as_bytes()));
    assert!(body_len(&pieces) < 2 * prompt.len() + 200);
}

#[test]
fn deep_nesting_is_handled() {
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let deep = nested(1000);
    let expected = deep.replace("]}", r#"],"model":"the-model","stream":true}"#);
    assert_eq!(body(&deep, Endpoint::Messages).unwrap(), expected);
    assert_eq!(body(&nested(500_000), Endpoint::Messages), Err(RequestError::NotJson));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        (0..3_usize).prop_map(|n| "long \u{1F600}\n".repeat(n * 400).into()),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            object(inner).prop_map(Value::Object)
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let key = prop_oneof![
        4 => prop::sample::select(&["model", "stream", "stream_options", "include_usage", "messages"][..]).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ];
    prop::collection::vec((key, value), 0..8).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn the_body_reads_as_the_edited_request(request in object(value()), pretty: bool, endpoint in prop::sample::select(&Endpoint::ALL[..])) {
        let request = if pretty { serde_json::to_string_pretty(&request) } else { serde_json::to_string(&request) }.unwrap();
        let body: Value = serde_json::from_str(&body(&request, endpoint).unwrap()).unwrap();
        prop_assert_eq!(body, edited(&request, endpoint));
    }

    #[test]
    fn no_input_panics_and_every_body_is_json(request in "[{}\\[\\]\":,a1 \\\\]{0,24}") {
        if let Ok(body) = body(&request, Endpoint::ChatCompletions) {
            serde_json::from_str::<&serde_json::value::RawValue>(&body).unwrap();
        }
    }
}
