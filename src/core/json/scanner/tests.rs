//! The scanner against the parser that everybody uses.

use std::ops::ControlFlow;

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn members(json: &str) -> Result<Vec<(&str, &str)>, Malformed> {
    let mut found = Vec::new();
    walk(json.as_bytes(), |key, value| {
        found.push((std::str::from_utf8(key).unwrap(), std::str::from_utf8(value).unwrap()));
    })?;
    Ok(found)
}

/// Whether it is one JSON object, as `serde_json` sees it.
fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(json).is_ok()
}

#[test]
fn members_are_found_as_they_are_spelled() {
    let json = "\n{ \"a\" : [1, {\"b\":\"]}\"}] ,\"c\\\"\":\"\\\\\",\"d\":-1e5\t,\"e\":null}\r\n";
    let expected = [(r#""a""#, r#"[1, {"b":"]}"}]"#), (r#""c\"""#, r#""\\""#), (r#""d""#, "-1e5"), (r#""e""#, "null")];
    assert_eq!(members(json).unwrap(), expected);
    assert_eq!(members("{ }").unwrap(), []);
}

#[test]
fn another_value_is_no_object() {
    for json in ["", " ", "[]", "7", "\"{}\"", "null"] {
        assert_eq!(members(json), Err(Malformed::NotAnObject), "{json}");
    }
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(members(&nested(DEEPEST)).unwrap().len(), 1);
    // The innermost pair is empty and so not gone into.
    assert_eq!(members(&nested(DEEPEST + 2)), Err(Malformed::TooDeep));
}

#[test]
fn an_object_within_can_be_walked_on_the_way() {
    let json = br#"{"a":1,"b":{"c":[2],"d":3},"e":4}"#;
    let mut inner = Vec::new();
    let mut scanner = Scanner::new(json);
    let walked = scanner.object(|scanner, key| match key {
        br#""b""# => scanner.object(|scanner, key| {
            inner.push((key, scanner.value()?));
            Ok(())
        }),
        _ => scanner.value().map(|_| ()),
    });
    assert_eq!((walked, scanner.end()), (Ok(()), Ok(())));
    assert_eq!(inner, [(&br#""c""#[..], &b"[2]"[..]), (br#""d""#, b"3")]);
}

#[test]
fn the_elements_of_a_list_are_found_as_they_are_spelled() {
    let elements = |json: &'static str| {
        let mut found = Vec::new();
        let walked = Scanner::new(json.as_bytes()).list(|element| {
            found.push(std::str::from_utf8(element).unwrap());
            if element == b"0" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        walked.map(|()| found)
    };
    assert_eq!(elements(r#" [ 1, "a,]" ,[2, 3],{"b" : []} ]"#), Ok(vec!["1", r#""a,]""#, "[2, 3]", r#"{"b" : []}"#]));
    assert_eq!(elements("[ ]"), Ok(vec![]));
    assert_eq!(elements("[1, 0, 2"), Ok(vec!["1", "0"]));
    for json in ["", "{}", "[1", "[1,]", "[,1]", "[1 2]"] {
        assert_eq!(elements(json), Err(Malformed::Broken), "{json}");
    }
}

proptest! {
    #[test]
    fn what_is_json_is_for_the_parser_to_say(json in r#"\{("a[\\n]?":([\[\]{},:]|"[\\u12]{0,6}"|-?[01][.0eE+-]{0,3}1|true|fals|null| ){0,6},?){0,3}\}"#) {
        prop_assert_eq!(members(&json).is_ok(), is_object(&json), "{}", json);
    }

    #[test]
    fn one_character_more_or_less_is_for_the_parser_to_say(at in 0_usize..64, with in r#"[\[\]{},:"\\0-9.eE+ tnu-]?"#, without in 0_usize..2) {
        let json = r#"{"a":{"b":[1,"\"}",{}],"n":-0.5e+10},"c":"d\\","e":[[]],"f":true}"#;
        let at = at.min(json.len() - 1);
        let changed = format!("{}{with}{}", &json[..at], &json[at + without..]);
        prop_assert_eq!(members(&changed).is_ok(), is_object(&changed), "{}", changed);
    }
}
