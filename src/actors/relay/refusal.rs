//! A response whose status is no success: what it means, and what of its body goes up.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::fault::{Fault, labelled};
use super::sender::ChunkSender;
use crate::backends::BackendResponse;
use crate::messages::wire::ErrorCode;
use crate::protocol::usage::{BackendFault, ERROR_BODY_LIMIT};

/// How long the body of an error may take: the status alone decides the code.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// The fault that the response stands for.
///
/// Where the connection carries heads the body goes up before it, as far as it was read: the client's own software may
/// know what to make of it. A backend that refuses the operator's key is an exception, whose words may hint at the key.
/// Elsewhere only a label of the body goes further.
pub(super) async fn of(response: BackendResponse, mut sender: ChunkSender<'_>) -> Fault {
    let BackendResponse { status, content_type, body } = response;
    let text = read(body).await;
    let fault = BackendFault::from_body(&text);
    let code = match status {
        401 | 403 => ErrorCode::AuthRejectedByBackend,
        404 => ErrorCode::ModelNotLoaded,
        400..=499 if fault.is_model_missing() => ErrorCode::ModelNotLoaded,
        _ => ErrorCode::Internal,
    };
    if sender.carries_heads() && code != ErrorCode::AuthRejectedByBackend {
        sender.begin(status, &content_type);
        // Where the connection is gone, nobody hears of the fault either.
        let _ = sender.send_all(&text).await;
    }
    Fault::new(code, labelled(format!("the backend answered {status}"), &fault))
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
