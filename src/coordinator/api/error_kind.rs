//! The kinds of API errors. A kind decides the HTTP status, the error type in each API, and the cause in logs and metrics.

use actix_web::http::StatusCode;

/// The kind of an API error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ApiErrorKind {
    /// 401: the API key is missing or wrong.
    Key,
    /// 404: the API has no such path.
    Endpoint,
    /// 413: the request is too large.
    Size,
    /// 400: the request is invalid.
    Request,
    /// 404: no agent offers the model.
    Model,
    /// 404: no agent offers the model at this path.
    Path,
    /// 429: all agents are at their limits.
    Capacity,
    /// 403: the API has no key, and the request may not come from a program on this machine.
    Forbidden,
    /// 415: the content type is not accepted.
    MediaType,
    /// 503: no agent offers the model now, but one may again soon.
    Unavailable,
    /// 503: the memory for request bodies is in use.
    Overloaded,
    /// 503: the coordinator is stopping.
    Stopping,
    /// 502: the agent failed.
    Upstream,
    /// 504: the job took too long.
    Timeout,
}

impl ApiErrorKind {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::Key,
        Self::Endpoint,
        Self::Size,
        Self::Request,
        Self::Model,
        Self::Path,
        Self::Capacity,
        Self::Forbidden,
        Self::MediaType,
        Self::Unavailable,
        Self::Overloaded,
        Self::Stopping,
        Self::Upstream,
        Self::Timeout,
    ];

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
            Self::Unavailable | Self::Overloaded | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The code in OpenAI's error bodies, which is also the cause in logs and metrics.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Key => "invalid_api_key",
            Self::Endpoint => "unknown_url",
            Self::Size => "request_too_large",
            Self::Request => "invalid_request",
            Self::Model => "model_not_found",
            Self::Path => "endpoint_not_supported",
            Self::Capacity => "out_of_capacity",
            Self::Forbidden => "forbidden",
            Self::MediaType => "unsupported_media_type",
            Self::Unavailable => "model_unavailable",
            Self::Overloaded => "overloaded",
            Self::Stopping => "shutting_down",
            Self::Upstream => "upstream_error",
            Self::Timeout => "timeout",
        }
    }
}
