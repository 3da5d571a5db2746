//! The names of members, as the most lenient server reads them.

use std::borrow::Cow;

use crate::core::json::name_of;

/// Longer names, in bytes, are not on any list.
const LONGEST: usize = 128;

/// A key with its quotes, decoded and in folded case.
///
/// Servers written in Go (Ollama, LocalAI) ignore case by Unicode's simple folding, in which the long s and the Kelvin sign
/// are an s and a k. No other letter outside ASCII folds to an ASCII letter.
pub(super) fn folded(key: &[u8]) -> Cow<'_, [u8]> {
    let name = name_of(key);
    let is_plain = name.iter().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_plain || name.len() > LONGEST {
        return name;
    }
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    String::from_utf8_lossy(&name).chars().map(fold).collect::<String>().into_bytes().into()
}

/// Whether a value is the same as a missing member.
pub(super) fn is_unset(value: &[u8]) -> bool {
    let empty_list = || value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).map(<[u8]>::trim_ascii);
    matches!(value, b"null" | b"false" | b"\"\"") || empty_list() == Some(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_reading_in_every_spelling() {
        for key in [r#""backend""#, r#""Backend""#, r#""b\u0061ckend""#, "\"bac\u{212a}end\"", r#""BAC\u212aEND""#] {
            assert_eq!(&*folded(key.as_bytes()), b"backend", "{key}");
        }
        assert_eq!(&*folded("\"\u{17f}tore\"".as_bytes()), b"store");
        assert_eq!(&*folded("\"é\"".as_bytes()), "é".as_bytes());
        let long = format!("\"{}\"", "A".repeat(LONGEST + 1));
        assert_eq!(folded(long.as_bytes()).len(), LONGEST + 1);
    }

    #[test]
    fn an_empty_value_is_unset() {
        for (value, unset) in [("null", true), ("false", true), ("[ ]", true), ("\"\"", true), ("true", false)] {
            assert_eq!(is_unset(value.as_bytes()), unset, "{value}");
        }
        for value in ["0", "[0]", "{}", "\"x\"", "["] {
            assert!(!is_unset(value.as_bytes()), "{value}");
        }
    }
}
