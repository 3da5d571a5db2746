//! What a refused upgrade means: whether to dial again, and when.
//!
//! awc's WebSocket client keeps only the status of such an answer. [`RefusalReader`] stands between it and the connection, and
//! sees the head.

use std::time::{Duration, SystemTime};

use actix_service::Service;
use awc::error::SendRequestError;
use awc::http::StatusCode;
use awc::http::header::{HeaderMap, HttpDate, RETRY_AFTER};
use awc::middleware::Transform;
use awc::{ConnectRequest, ConnectResponse};
use futures_util::future::LocalBoxFuture;

use super::stream::DialError;

/// Turns an answer that is not an upgrade into its [`DialError`], as a custom error.
pub(super) struct RefusalReader;

impl<S> Transform<S, ConnectRequest> for RefusalReader
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Transform = Reading<S>;

    fn new_transform(self, inner: S) -> Self::Transform {
        Reading { inner }
    }
}

/// A connection whose answers are read.
pub(super) struct Reading<S> {
    inner: S,
}

impl<S> Service<ConnectRequest> for Reading<S>
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Result<ConnectResponse, SendRequestError>>;

    actix_service::forward_ready!(inner);

    fn call(&self, request: ConnectRequest) -> Self::Future {
        let answered = self.inner.call(request);
        Box::pin(async move {
            match answered.await? {
                ConnectResponse::Tunnel(head, _) if head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    let error = refusal(head.status, &head.headers, SystemTime::now());
                    Err(SendRequestError::Custom(Box::new(error), Box::new("the upgrade was refused")))
                }
                answer => Ok(answer),
            }
        })
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> DialError {
    let code = status.as_u16();
    match code {
        401 | 403 => DialError::NotAdmitted(code),
        429 | 503 => DialError::Busy { status: code, retry_after: retry_after(headers, now) },
        300..=399 => DialError::Redirected(code),
        _ => DialError::Refused(code),
    }
}

/// Seconds, or a date (RFC 9110, 10.2.3). A date that has passed counts as missing.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is as long as can be.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    SystemTime::from(value.parse::<HttpDate>().ok()?).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use awc::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date_to_come() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let date = |at: SystemTime| HttpDate::from(at).to_string();
        let (later, earlier) = (date(now + Duration::from_secs(90)), date(now - Duration::from_secs(90)));
        for (value, seconds) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            (&later, Some(90)),
            (&earlier, None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
