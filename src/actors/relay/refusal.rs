//! A response whose status is no success: what it means, and what of its body goes up.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::JSON;
use super::fault::{Fault, labelled};
use super::sender::ChunkSender;
use crate::backends::BackendResponse;
use crate::messages::jobs::Blame;
use crate::messages::wire::ErrorCode;
use crate::protocol::route::Service;
use crate::protocol::translate::error_body;
use crate::protocol::usage::{BackendFault, ERROR_BODY_LIMIT};

/// How long the body of an error may take: the status alone decides the code.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// The fault that the response stands for.
///
/// Where the connection carries heads the body goes up before it, as far as it was read: the client's own software may
/// know what to make of it. A backend that refuses the operator's key is an exception, whose words may hint at the key.
/// Elsewhere only a label of the body goes further.
pub(super) async fn of(response: BackendResponse, service: Service, mut sender: ChunkSender<'_>) -> Fault {
    let BackendResponse { status, content_type, body } = response;
    let text = read(body).await;
    let fault = BackendFault::from_body(&text);
    let (code, blame) = match status {
        401 | 403 => (ErrorCode::AuthRejectedByBackend, Blame::Operator),
        404 => (ErrorCode::ModelNotLoaded, Blame::Caller),
        400..=499 if fault.is_model_missing() => (ErrorCode::ModelNotLoaded, Blame::Caller),
        // A redirect is of a place that the operator named; as much as it takes at once, by whoever set that.
        300..=399 | 429 => (ErrorCode::Internal, Blame::Operator),
        400..=499 => (ErrorCode::Internal, Blame::Caller),
        // llama.cpp answers so to a request that lacks what it needs.
        500 | 501 => (ErrorCode::Internal, Blame::Unclear),
        _ => (ErrorCode::Internal, Blame::Backend),
    };
    if sender.carries_heads() && code != ErrorCode::AuthRejectedByBackend {
        // Where the connection is gone, nobody hears of the fault either.
        let _ = match service {
            Service::Native => {
                sender.begin(status, &content_type);
                sender.send_all(&text).await
            }
            Service::Translated => {
                sender.begin(status, JSON);
                sender.send_all(&error_body(status, &text)).await
            }
        };
    }
    let refused = Fault::new(code, blame, labelled(format!("the backend answered {status}"), &fault));
    if blame == Blame::Unclear { refused.in_doubt() } else { refused }
}

/// The fault that a status stands for which another backend need not have.
pub(super) fn for_now(status: u16) -> Option<Fault> {
    let blame = match status {
        429 => Blame::Operator,
        502..=504 => Blame::Backend,
        _ => return None,
    };
    Some(Fault::new(ErrorCode::Internal, blame, format!("the backend answered {status}")).worth_another())
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
