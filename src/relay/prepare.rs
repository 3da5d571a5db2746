//! What the relay does with a request before it sends it: the policy checks it, and it becomes a body for the backend.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::body::JSON;
use super::fault::{ErrorResponse, Fault};
use super::refusal;
use crate::core::formats::policy::RequestPolicy;
use crate::core::formats::request::backend_body;
use crate::core::formats::translate::{Thinking, Translated, chat_request, error_body};
use crate::core::json::Members;
use crate::core::scheduling::route::Service;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{JobId, ModelId};

/// A request of more bytes is prepared on a blocking thread: it would delay the other streams of its arbiter.
const LARGE: usize = 1 << 20;

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

/// Prepares a request, a large one off the arbiter.
pub(super) async fn prepare(asked: Asked, policy: RequestPolicy, service: Service) -> Result<Prepared, Fault> {
    let len = asked.request.len();
    let prepared = by_size(len, move || prepare_here(&asked, policy, service)).await;
    prepared.unwrap_or_else(|| Err(Fault::agent("the request could not be prepared")))
}

/// The result of `work` on so many bytes, a large one's from a blocking thread. `None` if the work panicked. Work that has
/// not begun when the future is dropped never begins.
async fn by_size<T: Send + 'static>(len: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if len <= LARGE {
        return Some(work());
    }
    let mut task = JoinSet::new();
    task.spawn_blocking(work);
    task.join_next().await?.ok()
}

fn prepare_here(asked: &Asked, policy: RequestPolicy, service: Service) -> Result<Prepared, Fault> {
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
                    log::debug!("members of a request ignored job={id} members={}", dropped.join(","));
                }
                Ok(Prepared { endpoint: Endpoint::ChatCompletions, body, translated: Some(thinking) })
            }
            Err(error) => {
                let why = error.to_string();
                let body = error_body(400, why.as_bytes()).into();
                Err(Fault::caller(why).with_response(ErrorResponse {
                    status: 400,
                    content_type: JSON.to_owned(),
                    body,
                }))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::core::formats::policy::RemoteMedia;
    use crate::messages::backend::BackendKind;

    #[actix_rt::test]
    async fn only_large_requests_are_prepared_off_the_arbiter() {
        let here = thread::current().id();
        assert_eq!(by_size(LARGE, || thread::current().id()).await, Some(here));
        assert_ne!(by_size(LARGE + 1, || thread::current().id()).await.unwrap(), here);
    }

    #[actix_rt::test]
    async fn a_panic_on_the_blocking_thread_gives_nothing() {
        let len = std::hint::black_box(0);
        assert_eq!(by_size(LARGE + 1, move || 1 / len).await, None);
    }

    #[actix_rt::test]
    async fn a_large_request_is_held_to_the_same_rules() {
        let prepared = async |rest: &str, service| {
            let text = "x".repeat(LARGE);
            let request = format!(r#"{{"max_tokens":1,"messages":[{{"role":"user","content":"{text}"}}]{rest}}}"#);
            let asked = Asked {
                id: JobId::random(),
                model: ModelId::from("m"),
                endpoint: Endpoint::Messages,
                request: request.into(),
                members: Members::default(),
            };
            prepare(asked, RequestPolicy::new(BackendKind::Vllm, RemoteMedia::Refused), service).await
        };
        for (service, endpoint) in
            [(Service::Native, Endpoint::Messages), (Service::Translated, Endpoint::ChatCompletions)]
        {
            let Ok(ready) = prepared("", service).await else { panic!("refused") };
            assert_eq!((ready.endpoint, ready.translated.is_some()), (endpoint, service == Service::Translated));
            assert!(prepared(r#","mcp_servers":[{"url":"http://x"}]"#, service).await.is_err());
        }
    }
}
