//! Reads what is left of an object whose text is incomplete, broken, or nested too deeply for the [`Scanner`].
//!
//! [`Scanner`]: super::Scanner

use memchr::memchr2;

/// The last part of the outermost object that was read.
enum Last<'a> {
    /// A string: a key, if a colon follows.
    String(&'a [u8]),
    /// A key and its colon.
    Key(&'a [u8]),
    Other,
}

/// Calls `on_member` with each member of the outermost object whose value is a string: key and value in their quotes. Only
/// strings and the number of open brackets are read, so the text need not be JSON. One pass, without memory. It ends at the
/// end of the object, at a string without an end, or at once if the text does not begin with an object.
pub(crate) fn salvage<'a>(text: &'a [u8], mut on_member: impl FnMut(&'a [u8], &'a [u8])) {
    let (mut at, mut depth, mut last) = (0, 0_usize, Last::Other);
    while let Some(byte) = text.get(at) {
        let from = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'{' => depth += 1,
            _ if depth == 0 => return,
            b'"' => {
                let Some(end) = string_end(text, at) else { return };
                at = end;
                if depth == 1 {
                    let string = text.get(from..end).unwrap_or_default();
                    last = match last {
                        Last::Key(key) => {
                            on_member(key, string);
                            Last::Other
                        }
                        Last::String(_) | Last::Other => Last::String(string),
                    };
                }
                continue;
            }
            b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            b':' => {
                if let Last::String(key) = last {
                    last = Last::Key(key);
                    continue;
                }
            }
            _ => {}
        }
        last = Last::Other;
    }
}

/// The position after the closing quote of the string whose content begins at `from`, whatever the content is.
fn string_end(text: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr2(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        from = at + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salvaged(text: &str) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        salvage(text.as_bytes(), |key, value| {
            found.push((std::str::from_utf8(key).unwrap(), std::str::from_utf8(value).unwrap()));
        });
        found
    }

    #[test]
    fn strings_of_the_outermost_object_are_found() {
        let text = r#" {"a": "1", "b": {"c": "no"}, "d":["no", "e", {"f":"no"}], "g" : "\"}", "h": 7, "i": "2"} "#;
        assert_eq!(salvaged(text), [(r#""a""#, r#""1""#), (r#""g""#, r#""\"}""#), (r#""i""#, r#""2""#)]);
    }

    #[test]
    fn members_before_a_break_are_found() {
        let whole = [(r#""a""#, r#""1""#)];
        for broken in [
            r#"{"a":"1""#,
            r#"{"a":"1","b":"never clo"#,
            r#"{"a":"1","b":"never clo\"#,
            r#"{"a":"1","b":[[[{"x":"#,
            r#"{"a":"1" nonsense 'x' }"#,
            r#"{"a":"1"}{"b":"another object"}"#,
            r#"{"a":"1"]"b":"2"}"#,
            r#"{"a":"1",,:,"b""#,
        ] {
            assert_eq!(salvaged(broken), whole, "{broken}");
        }
    }

    #[test]
    fn members_after_a_break_are_found_while_the_brackets_are_balanced() {
        let found = [(r#""a""#, r#""1""#)];
        let deep = format!(r#"{{"x":{}{},"a":"1"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for broken in
            [deep.as_str(), r#"{"x":{oops],"a":"1"}"#, r#"{"x":truth "a":"1"}"#, "{\"x\":[\"\n\\q\"],\"a\":\"1\"}"]
        {
            assert_eq!(salvaged(broken), found, "{}", broken.get(..40).unwrap_or(broken));
        }
    }

    #[test]
    fn nothing_is_found_where_there_is_no_object() {
        for text in ["", " ", "[", r#"["a":"1"]"#, r#""a":"1""#, "7", "]}", "{", "{}"] {
            assert_eq!(salvaged(text), [], "{text}");
        }
    }
}
