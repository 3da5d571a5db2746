//! What the relay does with a request before it sends it: the policy checks it, and it becomes a body for the backend.

use bytes::Bytes;

use super::fault::{Fault, Said};
use super::{JSON, refusal};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{JobId, ModelId};
use crate::messages::json::Members;
use crate::protocol::policy::RequestPolicy;
use crate::protocol::request::backend_body;
use crate::protocol::route::Service;
use crate::protocol::translate::{Thinking, Translated, chat_request, error_body};

/// A job's request.
pub(super) struct Asked {
    pub(super) id: JobId,
    pub(super) model: ModelId,
    pub(super) endpoint: Endpoint,
    pub(super) request: Bytes,
    pub(super) members: Members,
}

/// A request that is ready to be sent.
pub(super) struct Prepared {
    pub(super) endpoint: Endpoint,
    pub(super) body: Vec<Bytes>,
    /// Set if the response has to be translated back.
    pub(super) translated: Option<Thinking>,
}

/// Prepares a request.
pub(super) fn prepare(asked: &Asked, policy: RequestPolicy, service: Service) -> Result<Prepared, Fault> {
    let Asked { id, model, endpoint, request, members } = asked;
    let endpoint = *endpoint;
    let dropped = policy.check(request, members, endpoint).map_err(|error| refusal::by_policy(error, endpoint))?;
    if !dropped.is_empty() {
        log::debug!("members of a request left out job={id} members={dropped}");
    }
    match service {
        Service::Native => {
            let body = backend_body(request, members, model, endpoint, &policy);
            let body = body.map_err(|_| Fault::caller("the request is not a JSON object"))?;
            Ok(Prepared { endpoint, body, translated: None })
        }
        Service::Translated => match chat_request(request, model) {
            Ok(Translated { body, dropped, thinking }) => {
                if !dropped.is_empty() {
                    log::warn!("members of a request ignored job={id} members={}", dropped.join(","));
                }
                Ok(Prepared { endpoint: Endpoint::ChatCompletions, body, translated: Some(thinking) })
            }
            Err(error) => {
                let why = error.to_string();
                let body = error_body(400, why.as_bytes()).into();
                Err(Fault::caller(why).saying(Said { status: 400, content_type: JSON.to_owned(), body }))
            }
        },
    }
}
