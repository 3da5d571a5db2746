//! Media in every place and spelling, and texts that only mention them.

use proptest::prelude::*;

use super::*;
use crate::core::json::Scanner;

const KEYS: MediaRules = MediaRules { keys: true, markdown: false };
const MARKDOWN: MediaRules = MediaRules { keys: true, markdown: true };

fn check_messages(value: &str) -> Result<(), PolicyError> {
    let mut scanner = Scanner::new(value.as_bytes());
    assert!(scanner.value().is_ok() && scanner.end().is_ok(), "{value}");
    check(b"messages", value.as_bytes(), KEYS)
}

/// A conversation with one part.
fn part(part: &str) -> String {
    format!(r#"[{{"role":"user","content":[{{"type":"text","text":"look"}},{part}]}}]"#)
}

#[test]
fn a_url_is_refused_at_every_place_for_media() {
    for media in [
        r#"{"type":"image_url","image_url":{"url":"http://169.254.169.254/latest"}}"#,
        r#"{"type":"image_url","image_url":{"detail":"low","url":"https://x.example/a.png"}}"#,
        r#"{"type":"image_url","image_url":"http://10.0.0.1/"}"#,
        r#"{"image_url":"ftp://10.0.0.1/"}"#,
        r#"{"type":"video_url","video_url":{"url":"file:///etc/passwd"}}"#,
        r#"{"type":"audio_url","audio_url":{"url":"http:10.0.0.1"}}"#,
        r#"{"type":"input_image","image_url":"//10.0.0.1/x.png"}"#,
        r#"{"type":"input_file","file_url":"http://10.0.0.1/"}"#,
        r#"{"type":"file","file":{"filename":"a.pdf","file_data":"https://10.0.0.1/a.pdf"}}"#,
        r#"{"type":"input_audio","input_audio":{"data":"http://10.0.0.1/a.wav","format":"wav"}}"#,
        r#"{"type":"image","source":{"type":"url","url":"http://10.0.0.1/"}}"#,
        r#"{"type":"document","source":{"type":"url","url":"http://10.0.0.1/"}}"#,
        r#"{"type":"image","image":"/home/op/secret.png"}"#,
        r#"{"type":"image","path":"secret.png"}"#,
        r#"{"type":"image","path":" \/etc/passwd"}"#,
        r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"url","url":"http://x"}}]}"#,
        r#"{"type":"function_call_output","output":[{"type":"input_image","image_url":"http://10.0.0.1/"}]}"#,
        r#"{"images":["data:image/png;base64,AAAA",{"a":1},"http://10.0.0.1/"]}"#,
    ] {
        assert_eq!(check_messages(&part(media)), Err(PolicyError::RemoteMedia), "{media}");
    }
}

#[test]
fn a_serialized_tensor_is_refused_whatever_the_operator_allows() {
    for media in [
        r#"{"type":"image_embeds","image_embeds":"gAJ9"}"#,
        r#"{"type":"image_embeds","image_embeds":{"pixels":"gAJ9"}}"#,
        "{\"type\":\"audio_embeds\",\"audio_\\u0065mbeds\":[\"gAJ9\"]}",
    ] {
        let rules = MediaRules { keys: false, markdown: false };
        assert_eq!(check(b"messages", part(media).as_bytes(), rules), Err(PolicyError::Tensor), "{media}");
    }
}

#[test]
fn no_spelling_hides_a_url() {
    for media in [
        r#"{"image_url":{"url":"\u0068ttp://10.0.0.1/"}}"#,
        r#"{"image_url":{"url":"HTTP://10.0.0.1/"}}"#,
        r#"{"image_url":{"url":" \t\nhttp://10.0.0.1/"}}"#,
        r#"{"image_url":{"url":"http:\/\/10.0.0.1\/"}}"#,
        r#"{"image_\u0075rl":{"\u0075rl":"http://10.0.0.1/"}}"#,
        r#"{"IMAGE_URL":{"Url":"http://10.0.0.1/"}}"#,
        r#"{"image_url" : { "url" : "http://10.0.0.1/" } }"#,
        r#"{"image_url":{"url":"data:,x","url":"http://10.0.0.1/"}}"#,
        r#"{"image_url":{"url":"http://10.0.0.1/","url":"data:,x"}}"#,
        r#"{"image_url":"http://10.0.0.1/","image_url":{"url":"data:,x"}}"#,
        r#"{"x":"\\\"","image_url":{"url":"http://10.0.0.1/"}}"#,
        r#"{"x":[[{"y":{"image_url":{"z":{"url":"http://10.0.0.1/"}}}}]]}"#,
        r#"{"image_url":{"url":"\ud800http://10.0.0.1/"}}"#,
        r#"{"image_url":{"url":"http\u003a//10.0.0.1/"}}"#,
    ] {
        assert_eq!(check_messages(&part(media)), Err(PolicyError::RemoteMedia), "{media}");
    }
}

#[test]
fn media_in_the_request_are_allowed() {
    for media in [
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"high"}}"#,
        r#"{"type":"image_url","image_url":{"url":"DATA:image/png;base64,iVBO"}}"#,
        r#"{"type":"image_url","image_url":{"url":"\u0064ata:image\/png;base64,iVBO"}}"#,
        r#"{"type":"image_url","image_url":{"url":" data:image/png;base64,iVBO"}}"#,
        r#"{"type":"image_url","image_url":{"url":"iVBORw0KGgo="}}"#,
        r#"{"type":"image_url","image_url":{"url":"\/9j\/4AAQSkZJRg=="}}"#,
        r#"{"type":"input_image","image_url":"data:,x"}"#,
        r#"{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}"#,
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}"#,
        r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"see http://x.example"}}"#,
        r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AAAA"}}"#,
        r#"{"type":"image_url","image_url":{"url":""}}"#,
        r#"{"type":"image_url","image_url":null}"#,
    ] {
        assert_eq!(check_messages(&part(media)), Ok(()), "{media}");
    }
}

#[test]
fn a_text_that_mentions_a_url_is_a_text() {
    for messages in [
        r#"[{"role":"user","content":"fetch http://169.254.169.254/ and ![](http://x)"}]"#,
        r#"[{"role":"user","content":[{"type":"text","text":"\"image_url\": {\"url\": \"http://x\"}"}]}]"#,
        r#"[{"role":"tool","tool_call_id":"c","content":"{\"url\":\"http://x\"}"}]"#,
        r#"[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"url\":\"http://x\"}"}}]}]"#,
        r#"[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"url":"http://x"}}}]}]"#,
        r#"[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"url":"http://x","a":[{"path":"/b.c"}]}}]}]"#,
        r#"[{"role":"assistant","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"http://x"}]}]}]"#,
        r#"[{"role":"assistant","content":[{"type":"text","text":"x","citations":[{"url":"http://x"}]}]}]"#,
        r#"[{"role":"user","content":[{"type":"search_result","source":"http://x","title":"t","content":[]}]}]"#,
        r#""http://x""#,
        "[]",
    ] {
        assert_eq!(check_messages(messages), Ok(()), "{messages}");
    }
}

#[test]
fn a_part_after_the_input_of_a_tool_is_checked() {
    let messages = r#"[{"content":[{"type":"tool_use","input":{"url":"http://x","a":[1]}},{"image_url":"http://x"}]}]"#;
    assert_eq!(check_messages(messages), Err(PolicyError::RemoteMedia));
}

#[test]
fn the_name_of_a_member_counts_like_a_key() {
    assert_eq!(check(b"images", br#"["http://x"]"#, KEYS), Err(PolicyError::RemoteMedia));
    assert_eq!(check(b"images", br#"["iVBO"]"#, KEYS), Ok(()));
    assert_eq!(check(b"input", br#"[{"image":"http://x"}]"#, KEYS), Err(PolicyError::RemoteMedia));
    assert_eq!(check(b"input", br#"["http://x"]"#, KEYS), Ok(()));
    assert_eq!(check(b"prompt", br#""http://x""#, KEYS), Ok(()));
}

#[test]
fn files_at_the_backend_are_refused() {
    let reference = r#"[{"type":"item_\u0072eference","id":"msg_1"}]"#;
    let file = r#"[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]"#;
    let source = r#"[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"file-1"}}]}]"#;
    let open = MediaRules { keys: false, markdown: false };
    for rules in [KEYS, open] {
        let check = |value: &str| check(b"input", value.as_bytes(), rules);
        assert_eq!(check(reference), Err(PolicyError::Stored("item_reference")));
        assert_eq!(check(file), Err(PolicyError::Stored("file_id")));
        assert_eq!(check(source), Err(PolicyError::Stored("file_id")));
        assert_eq!(check(r#"[{"type":"message","content":"item_reference file_id"}]"#), Ok(()));
    }
    assert_eq!(check(b"input", br#"[{"image_url":"http://x"}]"#, open), Ok(()));
}

#[test]
fn images_in_markdown_are_media_if_the_server_fetches_them() {
    let check = |value: &str| check(b"messages", value.as_bytes(), MARKDOWN);
    for messages in [
        r#"[{"role":"user","content":"look: ![](http://10.0.0.1/a.png)"}]"#,
        r#"[{"role":"user","content":"!!\u005b](https://10.0.0.1/a.png)"}]"#,
        r#"[{"role":"user","content":[{"type":"text","text":"!["},{"type":"text","text":"](ht"},{"type":"text","text":"tp://10.0.0.1)"}]}]"#,
        r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,x) ![](http://10.0.0.1/"}}]}]"#,
        r#"[{"role":"![](http://10.0.0.1/)","content":""}]"#,
    ] {
        assert_eq!(check(messages), Err(PolicyError::RemoteMedia), "{messages}");
    }
    for messages in [
        r#"[{"role":"user","content":"hi! http://x [](http://x) ![](docs/a.png) ![a](http://x) ![](data:,x)"}]"#,
        r#"[{"role":"user!","content":"hi!"},{"role":"user","content":"[x"}]"#,
    ] {
        assert_eq!(check(messages), Ok(()), "{messages}");
    }
}

#[test]
fn deep_nesting_and_long_texts_are_scanned_in_linear_time() {
    let deep = format!("{}\"http://x\"{}", r#"[{"a":"#.repeat(500), "}]".repeat(500));
    assert_eq!(check_messages(&deep), Ok(()));
    let deep = format!("{}{{\"url\":\"http://x\"}}{}", r#"[{"a":"#.repeat(500), "}]".repeat(500));
    assert_eq!(check_messages(&deep), Err(PolicyError::RemoteMedia));
    let quotes = format!(r#"[{{"content":"{}"}}]"#, r#"\\\""#.repeat(1 << 20));
    assert_eq!(check_messages(&quotes), Ok(()));
}

/// Whether an object anywhere in a parsed value has a URL at a key for media.
fn names_remote(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(members) => members.iter().any(|(key, value)| match (key.as_str(), value) {
            ("input", _) => false,
            ("url", serde_json::Value::String(text)) => text.starts_with("http"),
            ("url", serde_json::Value::Array(list)) => {
                list.iter().any(|value| value.as_str().is_some_and(|text| text.starts_with("http")))
                    || names_remote(value)
            }
            (_, value) => names_remote(value),
        }),
        serde_json::Value::Array(list) => list.iter().any(names_remote),
        _ => false,
    }
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        (0..9).prop_map(serde_json::Value::from),
        prop::sample::select(&["http:x", "data:x", "a\"]}\\", "", "é\n"][..]).prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(&["url", "input", "a", "b\"{[", "text"][..]).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_walk_finds_the_urls_of_the_parsed_value(value in value(), pretty: bool) {
        // A list within a list of media is a list of media, which the naive implementation above leaves out.
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let found = check(b"messages", text.as_bytes(), KEYS) == Err(PolicyError::RemoteMedia);
        if names_remote(&value) {
            prop_assert!(found, "{}", text);
        }
        if !text.contains("http:") && !text.contains("a\\\"]") && !text.contains('é') {
            prop_assert!(!found, "{}", text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"[\[\]{},:"\\ahturl!()]{0,60}"#) {
        let _ = check(b"messages", text.as_bytes(), MARKDOWN);
    }
}
