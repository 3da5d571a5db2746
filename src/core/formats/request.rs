//! Makes the body for the backend from the job's request.
//!
//! It reads only the top level of the request, which was validated when its frame was parsed. A prompt is neither parsed
//! again nor copied: its bytes are a slice of the received frame. Used by the relay.

use bytes::Bytes;

use crate::core::formats::policy::{MemberRule, RequestPolicy};
use crate::core::json::{self, Malformed, Members, Writer, name_of};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;

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
    let mut body = Writer::new(request);
    let (mut stream_options, mut nested) = (None, Ok(()));
    body.open();
    members.walk(request, |key, value| match Member::of(key, endpoint) {
        Member::Model | Member::Stream | Member::Store => {}
        Member::StreamOptions => stream_options = Some(value),
        Member::Other => match policy.rule(key, endpoint) {
            MemberRule::Send => body.member(key, value),
            MemberRule::SendPart(part) if nested.is_ok() && value.starts_with(b"{") => {
                nested = body.part(key, value, |key| part.sends(key));
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

/// Whether a stream of this endpoint reports usage only if that is requested.
fn asks_for_usage(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => true,
        Endpoint::Embeddings | Endpoint::Responses | Endpoint::Messages => false,
    }
}

/// The length of a body in bytes.
pub(crate) fn body_len(body: &[Bytes]) -> usize {
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

#[cfg(test)]
mod tests;
