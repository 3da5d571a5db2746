//! Reads request bodies. Each body has a limit, and the sum of all bodies in memory has another.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::ApiError;

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// Reads request bodies within a limit for each and a limit for all.
pub(crate) struct BodyReader {
    /// The largest body, in bytes.
    limit: usize,
    /// One permit for each byte that may still be held.
    room: Arc<Semaphore>,
}

/// A request body. Its bytes count until it is dropped.
pub(crate) struct Body {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl BodyReader {
    /// Reads bodies of up to `limit` bytes each, and `all` bytes at once.
    pub(crate) fn new(limit: usize, all: usize) -> Self {
        Self { limit, room: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body. Memory is counted as bytes arrive: a client that only announces a length uses none.
    pub(crate) async fn read(&self, headers: &HeaderMap, payload: Payload) -> Result<Body, ApiError> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.limit) {
            return Err(ApiError::TooLarge { limit: self.limit });
        }
        if announced.is_some_and(|length| length > self.room.available_permits()) {
            return Err(ApiError::Overloaded);
        }
        tokio::time::timeout(BODY_TIMEOUT, self.collect(payload)).await.unwrap_or(Err(ApiError::NoBody))
    }

    async fn collect(&self, mut payload: Payload) -> Result<Body, ApiError> {
        let (mut bytes, mut held) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|_| ApiError::NoBody)?;
            if bytes.len() + piece.len() > self.limit {
                return Err(ApiError::TooLarge { limit: self.limit });
            }
            let permit = self.take(piece.len())?;
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Body { bytes: bytes.freeze(), _room: held })
    }

    fn take(&self, length: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let count = u32::try_from(length).map_err(|_| ApiError::Overloaded)?;
        self.room.clone().try_acquire_many_owned(count).map_err(|_| ApiError::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use actix_http::Payload as Source;
    use actix_web::FromRequest;
    use actix_web::test::TestRequest;

    use super::*;

    async fn payload(pieces: &[&'static str]) -> Payload {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let stream: actix_http::BoxedPayloadStream = Box::pin(futures_util::stream::iter(pieces));
        Payload::from_request(&TestRequest::default().to_http_request(), &mut Source::from(stream)).await.unwrap()
    }

    async fn read(body_reader: &BodyReader, pieces: &[&'static str]) -> Result<Body, ApiError> {
        body_reader.read(&HeaderMap::new(), payload(pieces).await).await
    }

    #[actix_rt::test]
    async fn bodies_share_the_memory_and_release_it() {
        let body_reader = BodyReader::new(6, 10);
        let first = read(&body_reader, &["abc", "def"]).await.unwrap();
        assert_eq!(first.bytes, "abcdef");
        let second = read(&body_reader, &["abcd"]).await.unwrap();
        assert_eq!(read(&body_reader, &["a"]).await.err(), Some(ApiError::Overloaded));
        assert_eq!(read(&body_reader, &[]).await.map(|body| body.bytes.len()), Ok(0));
        drop(first);
        // A body that is refused halfway releases its memory.
        assert_eq!(read(&body_reader, &["abcdef", "g"]).await.err(), Some(ApiError::TooLarge { limit: 6 }));
        let third = read(&body_reader, &["abcd", "ef"]).await.unwrap();
        drop((second, third));
        assert_eq!(body_reader.room.available_permits(), 10);
    }

    #[actix_rt::test]
    async fn an_announced_length_over_a_limit_is_refused_before_the_body_is_read() {
        let body_reader = BodyReader::new(6, 8);
        let announcing = |length: u32| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, length.into());
            headers
        };
        let never = || async { payload(&[]).await };
        assert_eq!(body_reader.read(&announcing(7), never().await).await.err(), Some(ApiError::TooLarge { limit: 6 }));
        let _held = read(&body_reader, &["abcd"]).await.unwrap();
        assert_eq!(body_reader.read(&announcing(5), never().await).await.err(), Some(ApiError::Overloaded));
        assert!(body_reader.read(&announcing(4), payload(&["abcd"]).await).await.is_ok());
    }
}
