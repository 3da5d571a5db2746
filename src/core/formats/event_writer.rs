//! Writes the events of a stream. Used where this program makes a stream itself: of one body, of a translated response, and
//! for an error at its end.

use std::ops::DerefMut;

use bytes::BufMut;
use memchr::memchr2;
use serde::Serialize;

/// The event after the last one of OpenAI's completions.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// Appends an event. It has no name if `name` is empty.
pub(crate) fn write_event<B>(out: &mut B, name: &str, data: &(impl Serialize + ?Sized))
where
    B: BufMut + DerefMut<Target = [u8]>,
{
    if !name.is_empty() {
        for piece in ["event: ", name, "\n"] {
            out.put_slice(piece.as_bytes());
        }
    }
    out.put_slice(b"data: ");
    let start = out.len();
    // Plain data with string keys always serializes.
    let _ = serde_json::to_writer((&mut *out).writer(), data);
    // Values may be spelled with line breaks. Between the tokens of JSON a space is the same; within a string there are none.
    let mut rest = out.get_mut(start..).unwrap_or_default();
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        let (_, tail) = rest.split_at_mut(at);
        if let Some((line_break, tail)) = tail.split_first_mut() {
            *line_break = b' ';
            rest = tail;
        } else {
            break;
        }
    }
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn an_event_is_one_line_of_data() {
        let value: &RawValue = serde_json::from_str("{\r\n \"a\\n\":\n[1,\n\n2]\n}").unwrap();
        let mut out = Vec::new();
        write_event(&mut out, "", &value);
        assert_eq!(out, b"data: {   \"a\\n\": [1,  2] }\n\n");
        let mut out = BytesMut::from(&b"data: 1\n\n"[..]);
        write_event(&mut out, "ping", &"x\n");
        assert_eq!(out, b"data: 1\n\nevent: ping\ndata: \"x\\n\"\n\n"[..]);
    }
}
