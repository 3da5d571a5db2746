//! Which endpoints a server has: each is asked for once with a body that is no request, and the answer is remembered
//! until the server is another one. Knows no documents; driven by `observer`, which asks between the two steps of a proof.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::api::ApiClient;
use super::http;
use super::offer::Offer;
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::ids::ModelId;

/// How long a server may take to say whether it has an endpoint.
const ANSWER: Duration = Duration::from_secs(1);
/// Most that is read of an answer that is a success, in bytes.
const SUCCESS: usize = 64 * 1024;

/// How a llama.cpp server that was started with `--pooling none` begins to refuse whatever it is to embed.
const WITHOUT_POOLING: &str = "Pooling type 'none'";

/// How a kind's endpoints are proved.
#[derive(Clone, Copy)]
pub(super) enum Question {
    /// An empty object, which lacks what every request must have.
    Empty,
    /// The start of an object: for servers that take an empty one for a request and would work it, or that answer it as
    /// they answer an unknown path.
    Broken,
    /// None: a service is asked nothing that it could bill. It has what its documentation says.
    Documented,
}

/// What is known of one server's endpoints.
#[derive(Default)]
pub(super) struct Proof {
    /// Those that it has, by the last answers.
    has: Endpoints,
    /// Those that it told of since it is what it is now. The others are still to be asked for.
    told: Endpoints,
    /// What it is.
    version: Option<String>,
    models: BTreeSet<ModelId>,
}

impl Proof {
    /// Nothing is known any more: the server was not there.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Notes what the server is now. The endpoints that are to be asked for: those of its models that it did not tell of
    /// since it is that.
    pub(super) fn questions(&mut self, offer: &Offer) -> Endpoints {
        self.identify(offer);
        let wanted = offer.models.iter().fold(Endpoints::NONE, |all, model| all.union(model.endpoints));
        wanted.iter().filter(|endpoint| !self.told.contains(*endpoint)).collect()
    }

    /// Notes the answers, takes from the models the endpoints that the server does not have, and leaves out a model that
    /// has none then. False where nothing is left and some question had no answer: it is too early to say what the
    /// server offers.
    pub(super) fn settle(&mut self, answers: &[(Endpoint, Option<bool>)], offer: &mut Offer) -> bool {
        for (endpoint, answer) in answers {
            let Some(has) = *answer else { continue };
            self.told = self.told.with(*endpoint);
            self.has = if has { self.has.with(*endpoint) } else { self.has.without(*endpoint) };
        }
        for model in &mut offer.models {
            model.endpoints = model.endpoints.iter().filter(|endpoint| self.has.contains(*endpoint)).collect();
        }
        offer.models.retain(|model| !model.endpoints.is_empty());
        let silent = answers.iter().any(|(_, answer)| answer.is_none());
        !(silent && offer.models.is_empty())
    }

    /// With another version it is another server, of which nothing is known. With other models it is asked again, and
    /// what it had holds until it says otherwise.
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
            self.told = Endpoints::NONE;
        }
    }
}

/// Asks for these endpoints, all at once. `None`: the server did not say.
pub(super) async fn ask(api: &ApiClient, question: Question, endpoints: Endpoints) -> Vec<(Endpoint, Option<bool>)> {
    let asked = endpoints.iter().map(|endpoint| async move { (endpoint, ask_for(api, question, endpoint).await) });
    future::join_all(asked).await
}

async fn ask_for(api: &ApiClient, question: Question, endpoint: Endpoint) -> Option<bool> {
    let body: &[u8] = if matches!(question, Question::Broken) { b"{" } else { b"{}" };
    let asked = async {
        let response = api.post(endpoint).send_body(vec![Bytes::from_static(body)]).await.ok()?;
        match response.status {
            200 => Some(is_answer(endpoint, &read(response.body).await?)),
            400 if endpoint == Endpoint::Embeddings => Some(!refuses_any(&read(response.body).await?)),
            status => served(status),
        }
    };
    tokio::time::timeout(ANSWER, asked).await.ok()?
}

/// What a status that is no success says of the path.
fn served(status: u16) -> Option<bool> {
    match status {
        // Busy or not there yet.
        408 | 429 | 502..=504 => None,
        404 | 405 | 501 => Some(false),
        // Its models can be seen and this can't: a key opens the one and not the other.
        401 | 403 => Some(false),
        // Refused for what it lacks; some answer that with 500.
        400..=500 => Some(true),
        _ => Some(false),
    }
}

/// The start of a body. `None` where it breaks off or is no body at all.
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

/// Whether a success is an answer of this endpoint. One server works whatever it is sent; another answers any path that
/// it does not have with a success and an error in it.
fn is_answer(endpoint: Endpoint, body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return false };
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => answer.choices.is_some(),
        Endpoint::Embeddings => answer.data.is_some(),
        Endpoint::Responses => answer.output.is_some(),
        Endpoint::Messages => answer.content.is_some(),
    }
}

/// Whether a refusal is of every request there is. A llama.cpp server without pooling has vectors of tokens and none of
/// texts; of that nothing tells but the words.
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

/// What the answers of the endpoints are told by.
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
            (400, Some(true)),
            (422, Some(true)),
            (500, Some(true)),
            (404, Some(false)),
            (405, Some(false)),
            (501, Some(false)),
            (204, Some(false)),
            (302, Some(false)),
            (401, Some(false)),
            (503, None),
            (429, None),
        ] {
            assert_eq!(served(status), expected, "{status}");
        }
    }

    #[test]
    fn a_success_counts_where_it_is_an_answer_of_that_endpoint() {
        let chat = br#"{"object":"chat.completion","choices":[]}"#;
        assert!(is_answer(Endpoint::ChatCompletions, chat));
        assert!(!is_answer(Endpoint::Messages, chat));
        assert!(is_answer(Endpoint::Embeddings, br#"{"data":[]}"#));
        assert!(is_answer(Endpoint::Responses, br#"{"output":[]}"#));
        assert!(is_answer(Endpoint::Messages, br#"{"content":[]}"#));
        for endpoint in Endpoint::ALL {
            assert!(!is_answer(endpoint, br#"{"error":"Unexpected endpoint or method. (POST /x)"}"#));
            assert!(!is_answer(endpoint, b"<html>"));
            assert!(!is_answer(endpoint, b"[]"));
        }
    }
}
