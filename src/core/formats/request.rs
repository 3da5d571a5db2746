//! Makes the body for the backend from the job's request.
//!
//! It reads only the top level of the request, which was validated when its frame was parsed. A prompt is neither parsed
//! again nor copied: its bytes are a slice of the received frame. Used by the relay.

use bytes::Bytes;

use crate::core::formats::policy::{MemberRule, PartRule, RequestPolicy};
use crate::core::json::{self, Malformed, Members, name_of};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;

/// Larger values, in bytes, are passed on as slices of the request; the rest is joined in buffers.
const COPIED_UP_TO: usize = 4 << 10;

/// Why there is no body for a backend. Contains nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the text of one JSON value, as far as its top level shows.
    #[error("the request is not valid JSON")]
    NotJson,
    /// Another JSON value.
    #[error("the request is not a JSON object")]
    NotAnObject,
    /// The model's name can't be written as JSON.
    #[error("the model's name can't be written")]
    BadModel,
}

impl From<Malformed> for RequestError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotAnObject => Self::NotAnObject,
            Malformed::Broken | Malformed::TooDeep => Self::NotJson,
        }
    }
}

/// The body for the backend, in pieces: the request with `model` set to `model`, and `stream` set to true even if the job
/// wants one body, because only a stream is reliably cancelled. For chat completions and completions,
/// `stream_options.include_usage` is also set to true; the other endpoints report usage anyway. Embeddings can't be
/// streamed and have no `stream`. Responses get `store` set to false, because other clients could read what the backend
/// keeps. Members that the policy drops are left out. All other members keep their spelling and order.
///
/// The request has passed [`RequestPolicy::check`].
pub fn backend_body(
    request: &Bytes,
    members: &Members,
    model: &ModelId,
    endpoint: Endpoint,
    policy: &RequestPolicy,
) -> Result<Vec<Bytes>, RequestError> {
    let mut body = Body::new(request);
    let (mut stream_options, mut nested) = (None, Ok(()));
    body.open();
    members.walk(request, |key, value| match Member::of(key, endpoint) {
        Member::Model | Member::Stream | Member::Store => {}
        Member::StreamOptions => stream_options = Some(value),
        Member::Other => match policy.rule(key, endpoint) {
            MemberRule::Send => body.member(key, value),
            MemberRule::SendPart(part) if nested.is_ok() && value.starts_with(b"{") => {
                nested = body.part(key, value, part);
            }
            MemberRule::SendPart(_) | MemberRule::Drop => {}
        },
    })?;
    nested?;
    let model = serde_json::to_string(model).map_err(|_| RequestError::BadModel)?;
    body.member(br#""model""#, model.as_bytes());
    if endpoint != Endpoint::Embeddings {
        body.member(br#""stream""#, b"true");
    }
    if endpoint == Endpoint::Responses {
        body.member(br#""store""#, b"false");
    }
    if asks_for_usage(endpoint) {
        body.key(br#""stream_options""#);
        body.open();
        if let Some(options) = stream_options.filter(|options: &&[u8]| options.starts_with(b"{")) {
            json::walk(options, |key, value| {
                if &*name_of(key) != b"include_usage" {
                    body.member(key, value);
                }
            })?;
        }
        body.member(br#""include_usage""#, b"true");
        body.close();
    }
    body.close();
    Ok(body.finish())
}

/// A body with one more member at its end, which overrides earlier ones of the same name. `name` needs no escapes.
///
/// # Errors
/// Returns a body that does not end as a JSON object does.
pub fn with_member(mut body: Vec<Bytes>, name: &str, value: &str) -> Result<Vec<Bytes>, Vec<Bytes>> {
    let Some(last) = body.last() else { return Err(body) };
    let Some(open) = last.strip_suffix(b"}").map(<[u8]>::trim_ascii_end) else { return Err(body) };
    let Ok(value) = serde_json::to_string(value) else { return Err(body) };
    let is_empty = body.len() == 1 && open.trim_ascii_start() == b"{";
    let comma = if is_empty { "" } else { "," };
    let end = format!("{comma}\"{name}\":{value}}}");
    let open = last.slice_ref(open);
    body.pop();
    body.extend([open, end.into()]);
    Ok(body)
}

/// Whether a stream of this endpoint reports usage only if that is requested.
fn asks_for_usage(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => true,
        Endpoint::Embeddings | Endpoint::Responses | Endpoint::Messages => false,
    }
}

/// The length of a body in bytes.
pub fn body_len(body: &[Bytes]) -> usize {
    body.iter().map(Bytes::len).sum()
}

/// How a member of the request is handled.
enum Member {
    Model,
    Stream,
    StreamOptions,
    Store,
    /// The policy decides.
    Other,
}

impl Member {
    fn of(key: &[u8], endpoint: Endpoint) -> Self {
        match &*name_of(key) {
            b"model" => Self::Model,
            b"stream" => Self::Stream,
            b"stream_options" if asks_for_usage(endpoint) => Self::StreamOptions,
            b"store" if endpoint == Endpoint::Responses => Self::Store,
            _ => Self::Other,
        }
    }
}

/// JSON that is being built: slices of the request, and buffers between them.
pub(super) struct Body<'a> {
    request: &'a Bytes,
    pieces: Vec<Bytes>,
    buffer: Vec<u8>,
    /// The open object or list is still empty.
    is_empty: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(request: &'a Bytes) -> Self {
        Self { request, pieces: Vec::new(), buffer: Vec::new(), is_empty: true }
    }

    pub(super) fn open(&mut self) {
        self.buffer.push(b'{');
        self.is_empty = true;
    }

    pub(super) fn close(&mut self) {
        self.buffer.push(b'}');
        self.is_empty = false;
    }

    pub(super) fn open_list(&mut self) {
        self.buffer.push(b'[');
        self.is_empty = true;
    }

    pub(super) fn close_list(&mut self) {
        self.buffer.push(b']');
        self.is_empty = false;
    }

    /// An element of the open list follows.
    pub(super) fn element(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.buffer.push(b',');
        }
    }

    pub(super) fn key(&mut self, key: &[u8]) {
        self.element();
        self.text(key);
        self.buffer.push(b':');
    }

    pub(super) fn member(&mut self, key: &[u8], value: &[u8]) {
        self.key(key);
        self.text(value);
    }

    /// Appends an object with the members that this rule sends.
    fn part(&mut self, key: &[u8], object: &[u8], rule: PartRule) -> Result<(), Malformed> {
        self.key(key);
        self.open();
        json::walk(object, |key, value| {
            if rule.sends(key) {
                self.member(key, value);
            }
        })?;
        self.close();
        Ok(())
    }

    /// Appends a text unchanged; a long one that is a slice of the request is not copied.
    pub(super) fn text(&mut self, text: &[u8]) {
        if text.len() <= COPIED_UP_TO || !self.request.as_ptr_range().contains(&text.as_ptr()) {
            self.buffer.extend_from_slice(text);
        } else {
            self.flush();
            self.pieces.push(self.request.slice_ref(text));
        }
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.pieces.push(std::mem::take(&mut self.buffer).into());
        }
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces
    }
}

#[cfg(test)]
mod tests;
