//! The body of a backend's response.

use bytes::Bytes;
use futures_util::stream::LocalBoxStream;

use crate::backends::BodyError;

/// A response's body as it arrives.
pub(super) type Body = LocalBoxStream<'static, Result<Bytes, BodyError>>;

pub(super) const EVENTS: &str = "text/event-stream";
pub(super) const JSON: &str = "application/json";
