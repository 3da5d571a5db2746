//! The sorts of failure that the APIs tell apart: what decides the status, and in each API the type.

use actix_web::http::StatusCode;

/// The sort of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 401.
    Key,
    /// 404, of a path.
    Endpoint,
    /// 413.
    Size,
    /// 400.
    Request,
    /// 404, of a model.
    Model,
    /// 404, of a path at which the model is not offered.
    Path,
    /// 429.
    Capacity,
    /// 403: the API has no key, and the request may not come from a program on this machine.
    Forbidden,
    /// 415.
    MediaType,
    /// 503: the memory for request bodies is in use.
    Overloaded,
    /// 503.
    Stopping,
    /// 502.
    Upstream,
    /// 504.
    Timeout,
}

impl Fault {
    /// The status in both APIs.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Endpoint | Self::Model | Self::Path => StatusCode::NOT_FOUND,
            Self::Size => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Request => StatusCode::BAD_REQUEST,
            Self::Capacity => StatusCode::TOO_MANY_REQUESTS,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Overloaded | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
