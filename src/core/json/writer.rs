//! Writes JSON of which large parts are slices of another text, which are not copied. Used for the bodies of requests to
//! backends.

use bytes::Bytes;

use super::scanner::{Malformed, walk};

/// Larger values, in bytes, are slices of the source; the rest is joined in buffers.
const COPIED_UP_TO: usize = 4 << 10;

/// JSON that is being built: slices of its source, and buffers between them.
pub(crate) struct Writer<'a> {
    source: &'a Bytes,
    pieces: Vec<Bytes>,
    buffer: Vec<u8>,
    /// The open object or list is still empty.
    is_empty: bool,
}

impl<'a> Writer<'a> {
    /// Nothing written yet.
    pub(crate) fn new(source: &'a Bytes) -> Self {
        Self { source, pieces: Vec::new(), buffer: Vec::new(), is_empty: true }
    }

    /// Opens an object.
    pub(crate) fn open(&mut self) {
        self.buffer.push(b'{');
        self.is_empty = true;
    }

    /// Closes the open object.
    pub(crate) fn close(&mut self) {
        self.buffer.push(b'}');
        self.is_empty = false;
    }

    /// Opens a list.
    pub(crate) fn open_list(&mut self) {
        self.buffer.push(b'[');
        self.is_empty = true;
    }

    /// Closes the open list.
    pub(crate) fn close_list(&mut self) {
        self.buffer.push(b']');
        self.is_empty = false;
    }

    /// An element of the open list follows.
    pub(crate) fn element(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.buffer.push(b',');
        }
    }

    /// Appends a key, given in its quotes. Its value follows.
    pub(crate) fn key(&mut self, key: &[u8]) {
        self.element();
        self.text(key);
        self.buffer.push(b':');
    }

    /// Appends a key, given in its quotes, and its value, which is JSON.
    pub(crate) fn member(&mut self, key: &[u8], value: &[u8]) {
        self.key(key);
        self.text(value);
    }

    /// Appends a member that is an object, with those of its members whose key is kept.
    pub(crate) fn part(&mut self, key: &[u8], object: &[u8], is_kept: impl Fn(&[u8]) -> bool) -> Result<(), Malformed> {
        self.key(key);
        self.open();
        walk(object, |key, value| {
            if is_kept(key) {
                self.member(key, value);
            }
        })?;
        self.close();
        Ok(())
    }

    /// Appends a text unchanged; a long one that is a slice of the source is not copied.
    pub(crate) fn text(&mut self, text: &[u8]) {
        if text.len() <= COPIED_UP_TO || !self.source.as_ptr_range().contains(&text.as_ptr()) {
            self.buffer.extend_from_slice(text);
        } else {
            self.flush();
            self.pieces.push(self.source.slice_ref(text));
        }
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.pieces.push(std::mem::take(&mut self.buffer).into());
        }
    }

    /// The pieces, none of them empty.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces
    }
}

/// A body, in pieces, with one more member at its end, which overrides earlier ones of the same name. `name` needs no escapes.
///
/// # Errors
/// Returns a body that does not end as a JSON object does.
pub(crate) fn with_member(mut body: Vec<Bytes>, name: &str, value: &str) -> Result<Vec<Bytes>, Vec<Bytes>> {
    let Some(last) = body.last() else { return Err(body) };
    let Some(open) = last.strip_suffix(b"}").map(<[u8]>::trim_ascii_end) else { return Err(body) };
    let Ok(value) = serde_json::to_string(value) else { return Err(body) };
    // Only of an empty object the opening brace is the last byte before the closing one.
    let pieces = std::iter::once(open).chain(body.iter().rev().skip(1).map(|piece| piece.trim_ascii_end()));
    let is_empty = pieces.filter_map(<[u8]>::last).next() == Some(&b'{');
    let comma = if is_empty { "" } else { "," };
    let end = format!("{comma}\"{name}\":{value}}}");
    let open = last.slice_ref(open);
    body.pop();
    body.extend([open, end.into()]);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_one_more_member_whatever_pieces_it_is_in() {
        let with = |pieces: &[&'static str]| {
            let body = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
            with_member(body, "rid", "a\"b")
                .map(|body| String::from_utf8(body.concat()).unwrap())
                .map_err(|body| body.concat())
        };
        assert_eq!(with(&["{}"]).unwrap(), r#"{"rid":"a\"b"}"#);
        assert_eq!(with(&["{ \n}"]).unwrap(), r#"{"rid":"a\"b"}"#);
        assert_eq!(with(&[r#"{"rid":1}"#]).unwrap(), r#"{"rid":1,"rid":"a\"b"}"#);
        assert_eq!(with(&[r#"{"a":"#, "[1]", "}"]).unwrap(), r#"{"a":[1],"rid":"a\"b"}"#);
        assert_eq!(with(&["{", " \n", "}"]).unwrap(), "{ \n\"rid\":\"a\\\"b\"}");
        assert_eq!(with(&["{", "\"a\":1}"]).unwrap(), r#"{"a":1,"rid":"a\"b"}"#);
        assert_eq!(with(&["[]"]), Err(b"[]".to_vec()));
        assert_eq!(with(&[]), Err(vec![]));
    }
}
