//! A response whose status is no success: what it means, and what of its body the caller may read.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::JSON;
use super::fault::{Fault, Said, labelled};
use crate::backends::BackendResponse;
use crate::messages::jobs::Blame;
use crate::messages::wire::ErrorCode;
use crate::protocol::error_body::ERROR_BODY_LIMIT;
use crate::protocol::route::Service;
use crate::protocol::translate::error_body;
use crate::protocol::usage::BackendFault;

/// How long the body of an error may take: the status alone decides the code.
const ERROR_BODY: Duration = Duration::from_secs(1);

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
        429 | 502..=504 => refused.worth_another(),
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
