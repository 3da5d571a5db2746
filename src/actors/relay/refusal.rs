//! A request that is refused, by this program's policy or by a backend's status: what it means, and what the caller may
//! read of it.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::JSON;
use super::fault::{Fault, Said, labelled};
use crate::backends::BackendResponse;
use crate::core::scheduling::route::Service;
use crate::messages::endpoint::Endpoint;
use crate::messages::jobs::{Blame, Evidence};
use crate::messages::wire::ErrorCode;
use crate::protocol::policy::PolicyError;
use crate::protocol::translate::error_body;
use crate::protocol::usage::{BackendFault, ERROR_BODY_LIMIT};

/// How long the body of an error may take: the status alone decides the code.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// The fault of a request that the policy refuses, with a response body that gives the client the reason.
pub(super) fn by_policy(error: PolicyError, endpoint: Endpoint) -> Fault {
    let body = error.body(endpoint.format()).into();
    Fault::caller(error.to_string()).saying(Said { status: error.status(), content_type: JSON.to_owned(), body })
}

/// The fault that the response stands for, with its body, as far as it was read. A backend that refuses the operator's key
/// is an exception, whose words may hint at the key.
pub(super) async fn of(response: BackendResponse, service: Service) -> Fault {
    let BackendResponse { status, content_type, body } = response;
    let text = read(body).await;
    let fault = BackendFault::from_body(&text);
    let (code, blame) = match status {
        401 | 403 => (ErrorCode::AuthRejectedByBackend, Blame::Operator),
        404 => (ErrorCode::ModelNotLoaded, Blame::Caller),
        // A redirect is of a place that the operator named; as much as it takes at once, by whoever set that.
        300..=399 | 429 => (ErrorCode::Internal, Blame::Operator),
        400..=499 if fault.is_model_missing() => (ErrorCode::ModelNotLoaded, Blame::Caller),
        400..=499 => (ErrorCode::Internal, Blame::Caller),
        // llama.cpp answers so to a request that lacks what it needs.
        500 | 501 => (ErrorCode::Internal, Blame::Unclear),
        _ => (ErrorCode::Internal, Blame::Backend),
    };
    let refused = Fault::new(code, blame, labelled(format!("the backend answered {status}"), &fault));
    let refused = match status {
        401 | 403 => return refused,
        429 => refused.worth_another(),
        // Full, or not ready: a probe tells which.
        503 => refused.worth_another().in_doubt().showing(Evidence::Overload),
        // A gateway whose server broke or hangs.
        502 | 504 => refused.worth_another().in_doubt().showing(Evidence::Crash),
        _ if blame == Blame::Unclear => refused.in_doubt(),
        _ => refused,
    };
    refused.saying(match service {
        Service::Native => Said { status, content_type, body: text.freeze() },
        Service::Translated => Said { status, content_type: JSON.to_owned(), body: error_body(status, &text).into() },
    })
}

/// What came of a body in time and up to a bound.
async fn read(mut body: super::Body) -> BytesMut {
    let mut text = BytesMut::new();
    let all = async {
        while let Some(Ok(bytes)) = body.next().await {
            let room = ERROR_BODY_LIMIT - text.len();
            text.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            if text.len() == ERROR_BODY_LIMIT {
                break;
            }
        }
    };
    let _ = timeout(ERROR_BODY, all).await;
    text
}
