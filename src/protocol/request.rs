//! The body that goes to the backend, made of the job's request.
//!
//! Only the top level of the request is looked at. A prompt is neither parsed nor copied: its bytes are a slice of the
//! frame that they came in. Whoever sends the request drives it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::messages::backend::Format;
use crate::messages::ids::ModelId;

/// Values of more bytes than this are passed on as slices of the request; the rest is joined in buffers.
const COPIED_UP_TO: usize = 4 << 10;

/// Why a request has no body for a backend. It says nothing of what the request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the text of one JSON value.
    #[error("the request is not valid JSON")]
    NotJson,
    /// Another JSON value.
    #[error("the request is not a JSON object")]
    NotAnObject,
    /// The name of a model is no text for JSON.
    #[error("the model's name can't be written")]
    BadModel,
}

/// The body for the backend, in pieces: the request with `model` set to `model` and `stream` to true, and in OpenAI's
/// format with `stream_options.include_usage` set to true. Every other member stays as it is spelled, in its order.
pub fn backend_body(request: &Bytes, model: &ModelId, format: Format) -> Result<Vec<Bytes>, RequestError> {
    let mut body = Body::new(request);
    let mut stream_options = None;
    body.open();
    members(request, |key, value| match Member::of(key, format) {
        Member::Model | Member::Stream => {}
        Member::StreamOptions => stream_options = Some(value),
        Member::Other => body.member(key.get(), value.get()),
    })?;
    let model = serde_json::to_string(model).map_err(|_| RequestError::BadModel)?;
    body.member(r#""model""#, &model);
    body.member(r#""stream""#, "true");
    if format == Format::OpenAi {
        body.key(r#""stream_options""#);
        body.open();
        if let Some(options) = stream_options.filter(|options| options.get().starts_with('{')) {
            members(options.get().as_bytes(), |key, value| {
                if name_of(key) != "include_usage" {
                    body.member(key.get(), value.get());
                }
            })?;
        }
        body.member(r#""include_usage""#, "true");
        body.close();
    }
    body.close();
    Ok(body.finish())
}

/// The length of a body in bytes.
pub fn body_len(body: &[Bytes]) -> usize {
    body.iter().map(Bytes::len).sum()
}

/// What a member of the request means here.
enum Member {
    Model,
    Stream,
    StreamOptions,
    Other,
}

impl Member {
    fn of(key: &RawValue, format: Format) -> Self {
        match &*name_of(key) {
            "model" => Self::Model,
            "stream" => Self::Stream,
            "stream_options" if format == Format::OpenAi => Self::StreamOptions,
            _ => Self::Other,
        }
    }
}

/// A key as it reads, whatever escapes it is spelled with. One that reads as no text, such as half a surrogate pair, is
/// none that matters here.
fn name_of(key: &RawValue) -> Cow<'_, str> {
    let spelled = key.get();
    if spelled.contains('\\') {
        serde_json::from_str::<String>(spelled).unwrap_or_default().into()
    } else {
        spelled.trim_matches('"').into()
    }
}

/// Walks the members of a JSON object, in order, without a look into their values.
fn members<'a>(json: &'a [u8], on_member: impl FnMut(&'a RawValue, &'a RawValue)) -> Result<(), RequestError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let walked = deserializer.deserialize_map(Walk(on_member)).and_then(|()| deserializer.end());
    walked.map_err(|error| if error.is_data() { RequestError::NotAnObject } else { RequestError::NotJson })
}

struct Walk<F>(F);

impl<'a, F: FnMut(&'a RawValue, &'a RawValue)> Visitor<'a> for Walk<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            (self.0)(key, value);
        }
        Ok(())
    }
}

/// A JSON object in the making: slices of the request, and buffers between them.
struct Body<'a> {
    request: &'a Bytes,
    pieces: Vec<Bytes>,
    buffer: Vec<u8>,
    /// The object that is open has no member yet.
    is_empty: bool,
}

impl<'a> Body<'a> {
    fn new(request: &'a Bytes) -> Self {
        Self { request, pieces: Vec::new(), buffer: Vec::new(), is_empty: true }
    }

    fn open(&mut self) {
        self.buffer.push(b'{');
        self.is_empty = true;
    }

    fn close(&mut self) {
        self.buffer.push(b'}');
        self.is_empty = false;
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.buffer.push(b',');
        }
        self.text(key);
        self.buffer.push(b':');
    }

    fn member(&mut self, key: &str, value: &str) {
        self.key(key);
        self.text(value);
    }

    fn text(&mut self, text: &str) {
        if text.len() <= COPIED_UP_TO || !self.request.as_ptr_range().contains(&text.as_ptr()) {
            self.buffer.extend_from_slice(text.as_bytes());
        } else {
            self.flush();
            self.pieces.push(self.request.slice_ref(text.as_bytes()));
        }
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.pieces.push(std::mem::take(&mut self.buffer).into());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces
    }
}

#[cfg(test)]
mod tests;
