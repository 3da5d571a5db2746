//! What becomes of a client's request on its way to a backend of each kind.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::input::Input;
use crate::core::formats::policy::{RemoteMedia, RequestPolicy};
use crate::core::formats::request::backend_body;
use crate::core::json::{Members, Scanner, name_of, walk, with_member};
use crate::messages::backend::{BackendKind, Format};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let kind = input.one_of(&BackendKind::ALL);
    let endpoint = input.one_of(&Endpoint::ALL);
    let media = input.one_of(&[RemoteMedia::Refused, RemoteMedia::Refused, RemoteMedia::Allowed]);
    // As in a frame: an object without white space around it, in UTF-8.
    let text = input.rest().trim_ascii();
    let mut scanner = Scanner::new(text);
    let Ok(members) = Members::note(&mut scanner, text) else { return };
    if scanner.end().is_err() || std::str::from_utf8(text).is_err() {
        return;
    }
    let policy = RequestPolicy::new(kind, media);
    let request = Bytes::copy_from_slice(text);
    match policy.check(&request, &members, endpoint) {
        Err(error) => {
            for format in [Format::OpenAi, Format::Anthropic] {
                serde_json::from_slice::<Value>(&error.body(format)).unwrap();
            }
        }
        Ok(dropped) => {
            assert!(dropped.to_string().len() < 1000, "a line of the log is bounded");
            passes(&policy, &request, &members, endpoint);
            if media == RemoteMedia::Refused && endpoint == Endpoint::ChatCompletions {
                has_no_url(&request);
            }
        }
    }
}

/// The body is what the agent wants, and passes again without a change.
fn passes(policy: &RequestPolicy, request: &Bytes, members: &Members, endpoint: Endpoint) {
    let model = ModelId::from("our \"model\"");
    let pieces = backend_body(request, members, &model, endpoint, policy).unwrap();
    let body = Bytes::from(pieces.concat());
    assert!(body.len() <= request.len() + 200);
    serde_json::from_slice::<IgnoredAny>(&body).unwrap();
    assert_eq!(values(&body, "model"), [br#""our \"model\"""#]);
    let streams = if endpoint == Endpoint::Embeddings { 0 } else { 1 };
    assert_eq!(values(&body, "stream"), vec![b"true"; streams]);
    if endpoint == Endpoint::Responses {
        assert_eq!(values(&body, "store"), [b"false"]);
    }
    let named = with_member(pieces, "rid", "x").unwrap().concat();
    assert_eq!(values(&named, "rid").last(), Some(&&b"\"x\""[..]));

    let mut scanner = Scanner::new(&body);
    let again = Members::note(&mut scanner, &body).unwrap();
    assert!(policy.check(&body, &again, endpoint).unwrap().is_empty());
    assert_eq!(backend_body(&body, &again, &model, endpoint, policy).unwrap().concat(), body);
}

/// The values of the top-level members of this name, as a server reads it that ignores case.
fn values<'a>(body: &'a [u8], name: &str) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    walk(body, |key, value| {
        let key = String::from_utf8_lossy(&name_of(key)).replace('\u{17f}', "s").replace('\u{212a}', "k");
        found.extend(key.eq_ignore_ascii_case(name).then_some(value));
    })
    .unwrap();
    found
}

/// No image in a message is at a URL that a backend would fetch.
fn has_no_url(request: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Value>(request) else { return };
    let messages = request["messages"].as_array().into_iter().flatten();
    let parts = messages.filter_map(|message| message["content"].as_array()).flatten();
    for part in parts {
        let image = &part["image_url"];
        let url = image.as_str().or(image["url"].as_str()).unwrap_or_default();
        let start = url.trim_start().to_ascii_lowercase();
        assert!(!["http:", "https:", "file:"].iter().any(|scheme| start.starts_with(scheme)));
    }
}
