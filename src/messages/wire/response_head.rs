//! The head of a response, which the first chunk of a job contains.

use super::JobChunk;

/// The longest content type that is sent, in bytes.
const LONGEST_TYPE: usize = 96;

/// A status and a content type. Both are checked when they are made or read, so they can be shown, logged and written
/// without escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    status: u16,
    content_type: String,
}

impl ResponseHead {
    /// The head with this status, from 100 to 599; any other becomes 502. A content type that is invalid or too long becomes
    /// empty.
    pub fn new(status: u16, content_type: &str) -> Self {
        let status = if is_status(status) { status } else { 502 };
        let content_type = if is_type(content_type) { content_type.to_owned() } else { String::new() };
        Self { status, content_type }
    }

    /// The head in a chunk, if it has one.
    pub fn of(chunk: &JobChunk) -> Option<Self> {
        let status = chunk.status.filter(|status| is_status(*status))?;
        Some(Self::new(status, chunk.content_type.as_deref().unwrap_or_default()))
    }

    /// The HTTP status, from 100 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The type without its parameters, empty if it is not known. At most 96 letters, digits and marks that need no escapes
    /// in JSON.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Whether it is that of a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn is_status(status: u16) -> bool {
    (100..600).contains(&status)
}

fn is_type(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte);
    (1..=LONGEST_TYPE).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ids::JobId;

    #[test]
    fn what_is_no_type_is_left_empty() {
        let long = "a/".to_owned() + &"b".repeat(LONGEST_TYPE);
        for (given, want) in [
            ("application/json", "application/json"),
            ("application/vnd.x+json", "application/vnd.x+json"),
            ("", ""),
            ("text/html\"", ""),
            ("a\\b", ""),
            ("text/html; x", ""),
            ("ü/x", ""),
            ("a\nb", ""),
            (long.as_str(), ""),
        ] {
            assert_eq!(ResponseHead::new(200, given).content_type(), want, "{given}");
        }
        assert_eq!([0, 99, 600, u16::MAX].map(|status| ResponseHead::new(status, "").status()), [502; 4]);
    }

    #[test]
    fn a_chunk_has_a_head_if_it_has_a_status() {
        let chunk = |status, kind: Option<&str>| JobChunk {
            status,
            content_type: kind.map(Into::into),
            ..JobChunk::new(JobId::random(), String::new())
        };
        assert_eq!(ResponseHead::of(&chunk(None, Some("a/b"))), None);
        assert_eq!(ResponseHead::of(&chunk(Some(7), Some("a/b"))), None);
        assert_eq!(ResponseHead::of(&chunk(Some(404), None)), Some(ResponseHead::new(404, "")));
        assert_eq!(ResponseHead::of(&chunk(Some(200), Some("a/b"))), Some(ResponseHead::new(200, "a/b")));
    }
}
