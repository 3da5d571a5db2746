//! Which endpoints a server has: each is probed once with a body that is not a request, and the result is remembered
//! until the server is another one. Knows no documents; driven by `observer`, which probes between the two steps.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::api::ApiClient;
use super::offer::Offer;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::ModelId;
use crate::transport::http;

/// How long a server may take to answer the probe of an endpoint.
const ANSWER: Duration = Duration::from_secs(1);
/// Most that is read of an answer that is a success, in bytes.
const SUCCESS: usize = 64 * 1024;

/// The type of a stream of events.
const EVENTS: &str = "text/event-stream";

/// How the error of a llama.cpp server that was started with `--pooling none` begins, whatever it is to embed.
const WITHOUT_POOLING: &str = "Pooling type 'none'";

/// How a kind's endpoints are probed.
#[derive(Clone, Copy)]
pub(super) enum CapabilityProbe {
    /// An empty object, which lacks what every request must have.
    Empty,
    /// The start of an object: for servers that take an empty one for a request and would work it, or that answer it as
    /// they answer an unknown path.
    Broken,
    /// Not at all: a service is sent nothing that it could bill. It has what its documentation names.
    Documented,
}

/// Whether a server has an endpoint, by its answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It has it.
    Has,
    /// It reports that it does not.
    Lacks,
    /// Neither. It would answer the same again.
    Unclear,
    /// Nothing for now: it is busy, or not there yet.
    Silent,
}

/// What is known of one server's endpoints.
pub(super) struct Capabilities {
    /// Those that it is assumed to have until it reports that it lacks them.
    presumed: Endpoints,
    /// Those that it has, by its last answers.
    has: Endpoints,
    /// Those for which it answered since it is what it is now. The others are still to be probed.
    answered: Endpoints,
    /// What it is.
    version: Option<String>,
    models: BTreeSet<ModelId>,
}

impl Capabilities {
    /// Of a server that was not probed yet. What is `presumed` is offered unless the server clearly reports that it lacks it:
    /// a wrong yes costs a few jobs, a wrong no costs its operator all of them.
    pub(super) fn new(presumed: Endpoints) -> Self {
        Self { presumed, has: presumed, answered: Endpoints::NONE, version: None, models: BTreeSet::new() }
    }

    /// Nothing is known any more: the server was not there.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.presumed);
    }

    /// Notes what the server is now. Returns the endpoints to probe: those of its models for which it did not answer since
    /// it is that.
    pub(super) fn unanswered(&mut self, offer: &Offer) -> Endpoints {
        self.identify(offer);
        let wanted = offer.models.iter().fold(Endpoints::NONE, |all, model| all.union(model.endpoints));
        wanted.iter().filter(|endpoint| !self.answered.contains(*endpoint)).collect()
    }

    /// Records the answers, takes from the models the endpoints that the server does not have, and leaves out a model that
    /// then has none. False if no model is left and some probe had no answer: it is too early to say what the server
    /// offers.
    pub(super) fn record(&mut self, answers: &[(Endpoint, Support)], offer: &mut Offer) -> bool {
        for &(endpoint, support) in answers {
            match support {
                Support::Has => self.has = self.has.with(endpoint),
                Support::Lacks => self.has = self.has.without(endpoint),
                // What it answered before holds, or what is presumed.
                Support::Unclear | Support::Silent => {}
            }
            if support != Support::Silent {
                self.answered = self.answered.with(endpoint);
            }
        }
        for model in &mut offer.models {
            model.endpoints = model.endpoints.iter().filter(|endpoint| self.has.contains(*endpoint)).collect();
        }
        offer.models.retain(|model| !model.endpoints.is_empty());
        let silent = answers.iter().any(|(_, support)| *support == Support::Silent);
        !(silent && offer.models.is_empty())
    }

    /// With another version it is another server, of which nothing is known. With other models it is probed again, and
    /// what it had holds until it answers otherwise.
    fn identify(&mut self, offer: &Offer) {
        if let (Some(before), Some(now)) = (&self.version, &offer.version)
            && before != now
        {
            self.forget();
        }
        if offer.version.is_some() {
            self.version.clone_from(&offer.version);
        }
        let models = offer.models.iter().map(|model| model.id.clone()).collect();
        if self.models != models {
            self.models = models;
            self.answered = Endpoints::NONE;
        }
    }
}

/// Probes these endpoints, all at once.
pub(super) async fn probe(api: &ApiClient, how: CapabilityProbe, endpoints: Endpoints) -> Vec<(Endpoint, Support)> {
    let probes = endpoints.iter().map(|endpoint| async move {
        let support = tokio::time::timeout(ANSWER, probe_one(api, how, endpoint)).await;
        (endpoint, support.ok().flatten().unwrap_or(Support::Silent))
    });
    future::join_all(probes).await
}

/// `None`: no answer, or one that breaks off.
async fn probe_one(api: &ApiClient, how: CapabilityProbe, endpoint: Endpoint) -> Option<Support> {
    let body: &[u8] = if matches!(how, CapabilityProbe::Broken) { b"{" } else { b"{}" };
    let response = api.post(endpoint).send_body(vec![Bytes::from_static(body)]).await.ok()?;
    Some(match response.status {
        // It works what it was sent, which ends here.
        200 if response.content_type == EVENTS && endpoint != Endpoint::Embeddings => Support::Has,
        200 => success(endpoint, &read(response.body).await?),
        400 if endpoint == Endpoint::Embeddings && refuses_any(&read(response.body).await?) => Support::Lacks,
        status => failure(status),
    })
}

/// What a status other than 200 means for the path.
fn failure(status: u16) -> Support {
    match status {
        // Busy or not there yet.
        408 | 429 | 502..=504 => Support::Silent,
        404 | 405 | 501 => Support::Lacks,
        // Its models can be seen and this can't: a key opens the one and not the other. A job would fail the same way.
        401 | 403 => Support::Lacks,
        // No redirect is followed, for a job neither.
        300..=399 => Support::Lacks,
        // Refused for what the request lacks; some servers answer that with 500.
        400..=500 => Support::Has,
        _ => Support::Unclear,
    }
}

/// What a success means for the path.
fn success(endpoint: Endpoint, body: &[u8]) -> Support {
    if is_answer(endpoint, body) {
        Support::Has
    } else if names_path(endpoint, body) {
        Support::Lacks
    } else {
        Support::Unclear
    }
}

/// The start of a body. `None` where it ends early or is not readable.
async fn read(mut response: http::Body) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(bytes) = response.next().await {
        body.extend_from_slice(&bytes.ok()?);
        if body.len() > SUCCESS {
            break;
        }
    }
    Some(body)
}

/// Whether a success is a response of this endpoint: some servers work whatever they are sent.
fn is_answer(endpoint: Endpoint, body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return false };
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => answer.choices.is_some(),
        Endpoint::Embeddings => answer.data.is_some(),
        Endpoint::Responses => answer.output.is_some(),
        Endpoint::Messages => answer.content.is_some(),
    }
}

/// Whether a success holds an error that names the path: LM Studio answers so for any path that it does not have.
fn names_path(endpoint: Endpoint, body: &[u8]) -> bool {
    let Ok(refusal) = serde_json::from_slice::<PathRefusal>(body) else { return false };
    let PathRefusal { error, detail, message } = refusal;
    [error, detail, message].into_iter().flatten().any(|words| words.to_string().contains(endpoint.path()))
}

/// An error wherever servers put it.
#[derive(Deserialize)]
struct PathRefusal {
    error: Option<Value>,
    detail: Option<Value>,
    message: Option<Value>,
}

/// Whether the server refuses every request, not only this one. A llama.cpp server without pooling has vectors of tokens and
/// none of texts; only the message shows that.
fn refuses_any(body: &[u8]) -> bool {
    serde_json::from_slice::<Refusal>(body).is_ok_and(|refusal| refusal.error.message.starts_with(WITHOUT_POOLING))
}

#[derive(Deserialize)]
struct Refusal {
    error: Words,
}

#[derive(Deserialize)]
struct Words {
    message: String,
}

/// The members that distinguish the responses of the endpoints.
#[derive(Deserialize)]
struct Answer {
    choices: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
    output: Option<IgnoredAny>,
    content: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_request_shows_that_the_path_is_served() {
        for (status, expected) in [
            (400, Support::Has),
            (422, Support::Has),
            (500, Support::Has),
            (404, Support::Lacks),
            (405, Support::Lacks),
            (501, Support::Lacks),
            (302, Support::Lacks),
            (401, Support::Lacks),
            (204, Support::Unclear),
            (520, Support::Unclear),
            (503, Support::Silent),
            (429, Support::Silent),
        ] {
            assert_eq!(failure(status), expected, "{status}");
        }
    }

    #[test]
    fn a_success_counts_where_it_is_an_answer_of_that_endpoint() {
        let chat = br#"{"object":"chat.completion","choices":[]}"#;
        for (endpoint, body, expected) in [
            (Endpoint::ChatCompletions, &chat[..], Support::Has),
            (Endpoint::Messages, chat, Support::Unclear),
            (Endpoint::Embeddings, br#"{"data":[]}"#, Support::Has),
            (Endpoint::Responses, br#"{"output":[]}"#, Support::Has),
            (Endpoint::Messages, br#"{"content":[]}"#, Support::Has),
        ] {
            assert_eq!(success(endpoint, body), expected, "{endpoint}");
        }
        for endpoint in Endpoint::ALL {
            for body in ["", "<html>", "[]", "{}", r#"{"error":"no messages"}"#, r#"{"error":"not at /v2/x"}"#] {
                assert_eq!(success(endpoint, body.as_bytes()), Support::Unclear, "{endpoint} {body}");
            }
            let path = endpoint.path();
            for body in [
                format!(r#"{{"error":"Unexpected endpoint or method. (POST {path})"}}"#),
                format!(r#"{{"error":{{"code":404,"message":"unknown path: {path}"}}}}"#),
                format!(r#"{{"detail":"{}"}}"#, path.replace('/', r"\/")),
            ] {
                assert_eq!(success(endpoint, body.as_bytes()), Support::Lacks, "{endpoint} {body}");
            }
        }
    }

    #[test]
    fn what_is_presumed_holds_until_the_server_answers_that_it_lacks_it() {
        let chat = Endpoint::ChatCompletions;
        for (answers, expected) in [
            (&[][..], true),
            (&[Support::Unclear], true),
            (&[Support::Silent], true),
            (&[Support::Lacks], false),
            (&[Support::Lacks, Support::Unclear], false),
            (&[Support::Lacks, Support::Silent], false),
            (&[Support::Lacks, Support::Has], true),
        ] {
            let mut capabilities = Capabilities::new(Endpoints::NONE.with(chat));
            for &support in answers {
                capabilities.record(&[(chat, support)], &mut Offer::new([]));
            }
            assert_eq!(capabilities.has.contains(chat), expected, "{answers:?}");
            capabilities.forget();
            assert!(capabilities.has.contains(chat));
        }
        let mut strict = Capabilities::new(Endpoints::NONE);
        for support in [Support::Unclear, Support::Silent] {
            strict.record(&[(chat, support)], &mut Offer::new([]));
            assert!(!strict.has.contains(chat));
        }
    }
}
