//! A request that is refused, by this program's policy or by a backend's status: what it means, and what the caller may
//! read of it.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::body::JSON;
use super::fault::{ErrorResponse, Fault, labelled};
use crate::backends::BackendResponse;
use crate::core::formats::error_body::ERROR_BODY_LIMIT;
use crate::core::formats::key_trace::KeyTrace;
use crate::core::formats::policy::PolicyError;
use crate::core::formats::translate::error_body;
use crate::core::formats::usage::BackendFault;
use crate::core::scheduling::route::Service;
use crate::messages::endpoint::Endpoint;
use crate::messages::jobs::{Blame, Evidence};
use crate::messages::wire::ErrorCode;

/// How long the body of an error may take: the status alone decides the code.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// The fault of a request that the policy refuses, with a response body that gives the client the reason.
pub(super) fn by_policy(error: PolicyError, endpoint: Endpoint) -> Fault {
    let body = error.body(endpoint.format()).into();
    Fault::caller(error.to_string()).with_response(ErrorResponse {
        status: error.status(),
        content_type: JSON.to_owned(),
        body,
    })
}

/// The fault that the response stands for. A refusal of the request (4xx) has its body, for the caller to read, unless the
/// body contains the key or was not read to its end, where half a key may stand. The body of any other error is not sent:
/// it may tell of the operator's host. Nor is that of a refusal of the operator's key, which may hint at the key.
pub(super) async fn of(response: BackendResponse, service: Service, trace: Option<&KeyTrace>) -> Fault {
    let BackendResponse { status, content_type, body } = response;
    let Read { text, is_whole } = read(body).await;
    let fault = BackendFault::from_body(&text);
    let (code, blame) = match status {
        401 | 403 => (ErrorCode::AuthRejectedByBackend, Blame::Operator),
        404 => (ErrorCode::ModelNotLoaded, Blame::Caller),
        // The operator named the server that redirects, and set how many requests it accepts at once.
        300..=399 | 429 => (ErrorCode::Internal, Blame::Operator),
        400..=499 if fault.is_model_missing() => (ErrorCode::ModelNotLoaded, Blame::Caller),
        400..=499 => (ErrorCode::Internal, Blame::Caller),
        // llama.cpp answers so to a request that lacks what it needs.
        500 | 501 => (ErrorCode::Internal, Blame::Unclear),
        _ => (ErrorCode::Internal, Blame::Backend),
    };
    let refused = Fault::new(code, blame, labelled(format!("the backend answered {status}"), &fault));
    let refused = match status {
        429 => refused.retryable(),
        // Full, not ready, or a gateway whose server is gone: a probe tells which. It was refused, and so does not wait.
        502..=504 => refused.retryable().with_probe().showing(Evidence::Overload),
        // It listed the model, so another backend may have it, and the list is read again.
        _ if code == ErrorCode::ModelNotLoaded => refused.retryable().with_probe(),
        _ if blame == Blame::Unclear => refused.with_probe(),
        _ => refused,
    };
    if !(400..500).contains(&status) || matches!(status, 401 | 403) {
        return refused;
    }
    let may_be_read = is_whole && !trace.is_some_and(|trace| trace.is_in(&text));
    let (text, content_type) = if may_be_read { (text.freeze(), content_type) } else { Default::default() };
    refused.with_response(match service {
        Service::Native => ErrorResponse { status, content_type, body: text },
        Service::Translated => {
            ErrorResponse { status, content_type: JSON.to_owned(), body: error_body(status, &text).into() }
        }
    })
}

/// What was read of a body.
struct Read {
    text: BytesMut,
    /// Whether that is all of it.
    is_whole: bool,
}

/// Reads a body in time and up to a bound.
async fn read(mut body: super::body::Body) -> Read {
    let mut text = BytesMut::new();
    let all = async {
        while let Some(bytes) = body.next().await {
            let Ok(bytes) = bytes else { return false };
            let room = ERROR_BODY_LIMIT - text.len();
            text.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            if bytes.len() > room {
                return false;
            }
        }
        true
    };
    let is_whole = timeout(ERROR_BODY, all).await.unwrap_or(false);
    Read { text, is_whole }
}
