//! Every path of the API, with agents that agreed on the extension `endpoints` and with agents that did not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is amiss")]
#![allow(clippy::disallowed_methods, reason = "a test is its own owner: what it spawns ends with its runtime")]

mod coordinator_fixture;

use coordinator_fixture::{Agent, Answer, Coordinator, soon};
use outpost::messages::endpoint::{AnswerForm, Endpoint};
use outpost::messages::wire::{ErrorCode, Extension, FromAgent, JobError, JobTarget};
use outpost::testkit::{answer, whole_answer};

use AnswerForm::{Stream, Whole};

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";
const WHOLE: &str = r#"{"model":"m"}"#;
const STREAMED: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;

fn text(pieces: &[bytes::Bytes]) -> String {
    String::from_utf8(pieces.concat()).unwrap()
}

fn whole(endpoint: Endpoint) -> String {
    text(&[whole_answer(endpoint, "hello", 3, 5)])
}

/// Makes the agent answer one request with this head and body.
async fn answered(
    coordinator: &Coordinator,
    agent: &mut Agent,
    asked: (Endpoint, &str),
    head: (u16, &str),
    body: &str,
) -> Answer {
    let pending = coordinator.start_request(asked.0.path(), asked.1);
    let job = agent.job().await.job_id;
    let (first, rest) = body.split_at(body.len() / 2);
    agent.begin(job, head.0, head.1, first).await;
    agent.binary_chunk(job, first.len() as u64, rest).await;
    agent.done(job).await;
    soon(pending).await.unwrap()
}

/// Makes the agent fail one request with its backend's error response.
async fn refused(
    coordinator: &Coordinator,
    agent: &mut Agent,
    endpoint: Endpoint,
    status: u16,
    code: ErrorCode,
    body: &str,
) -> Answer {
    let pending = coordinator.start_request(endpoint.path(), STREAMED);
    let job_id = agent.job().await.job_id;
    agent.begin(job_id, status, JSON, body).await;
    let error = JobError { job_id, error_code: code, message: "because".into(), tokens_emitted: body.len() as u64 };
    agent.send(&FromAgent::JobError(error)).await;
    soon(pending).await.unwrap()
}

#[actix_rt::test]
async fn a_job_has_its_path_and_form_for_an_agent_with_the_extension() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
    for endpoint in Endpoint::ALL {
        for (body, form) in [(WHOLE, Whole), (STREAMED, Stream)] {
            let pending = coordinator.start_request(endpoint.path(), body);
            let job = agent.job().await;
            let form = if endpoint == Endpoint::Embeddings { Whole } else { form };
            assert_eq!((job.target, &job.request[..]), (JobTarget::new(endpoint, form), body.as_bytes()));
            assert_eq!(job.endpoint.format(), endpoint.format());
            agent.fail(job.job_id, ErrorCode::Internal).await;
            assert_eq!(soon(pending).await.unwrap().status, 502);
        }
    }
}

#[actix_rt::test]
async fn a_job_has_no_path_for_a_base_agent_whose_stream_is_assembled() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join(&coordinator, 1, &["m"], 1).await;
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages] {
        let pending = coordinator.start_request(endpoint.path(), WHOLE);
        let job = agent.job().await;
        assert_eq!((job.target, job.endpoint), (JobTarget::BASE, endpoint));
        // Fields of an extension that was not agreed on are ignored.
        agent.begin(job.job_id, 404, "text/html", &text(&answer(endpoint, "hello", 3, 5))).await;
        agent.done(job.job_id).await;
        let answer = soon(pending).await.unwrap();
        assert_eq!((answer.status, answer.content_type.as_str()), (200, JSON));
        assert!(answer.body.contains("hello"), "{}", answer.body);
    }
    for endpoint in [Endpoint::Completions, Endpoint::Embeddings, Endpoint::Responses] {
        let answer = coordinator.request(endpoint.path(), WHOLE).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"endpoint_not_supported".into()));
    }
}

#[actix_rt::test]
async fn every_path_is_served_streamed_and_as_one_body() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
    for endpoint in Endpoint::ALL {
        let body = whole(endpoint);
        let one = answered(&coordinator, &mut agent, (endpoint, WHOLE), (200, JSON), &body).await;
        assert_eq!((one.status, one.content_type.as_str(), one.body), (200, JSON, body), "{endpoint}");
        if endpoint != Endpoint::Embeddings {
            let events = text(&answer(endpoint, "hello", 3, 5));
            let stream = answered(&coordinator, &mut agent, (endpoint, STREAMED), (200, EVENTS), &events).await;
            let seen = (stream.status, stream.content_type.as_str(), stream.body);
            assert_eq!(seen, (200, EVENTS, events), "{endpoint}");
        }
    }
}

#[actix_rt::test]
async fn a_stream_is_assembled_if_the_agent_did_not_and_other_types_are_refused() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
    let (chat, events) = (Endpoint::ChatCompletions, text(&answer(Endpoint::ChatCompletions, "hello", 3, 5)));
    let put = answered(&coordinator, &mut agent, (chat, WHOLE), (200, EVENTS), &events).await;
    assert_eq!((put.status, put.json()["object"].as_str()), (200, Some("chat.completion")));
    for (asked, head, body) in [
        (STREAMED, (200, JSON), whole(chat)),
        (WHOLE, (200, "text/html"), "<script>".into()),
        (STREAMED, (200, "text/html"), "<script>".into()),
        (WHOLE, (200, ""), whole(chat)),
        (WHOLE, (302, JSON), whole(chat)),
        (WHOLE, (500, JSON), whole(chat)),
    ] {
        // A new agent each time: the last one may have received a cancel.
        let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
        let answer = answered(&coordinator, &mut agent, (chat, asked), head, &body).await;
        let seen = (answer.status, answer.json()["error"]["type"].as_str().map(str::to_owned));
        assert_eq!(seen, (502, Some("server_error".into())), "{head:?}");
    }
}

#[actix_rt::test]
async fn the_body_of_a_failed_job_is_an_error() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
    let pending = coordinator.start_request(Endpoint::Embeddings.path(), WHOLE);
    let job = agent.job().await.job_id;
    agent.begin(job, 200, JSON, &whole(Endpoint::Embeddings)).await;
    agent.fail(job, ErrorCode::BackendTimeout).await;
    assert_eq!(soon(pending).await.unwrap().status, 504);
}

#[actix_rt::test]
async fn a_backends_refusal_reaches_the_client_with_its_status_in_the_shape_of_the_api() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
    let said = r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":8}}"#;
    for endpoint in Endpoint::ALL {
        for (status, code) in [
            (400, ErrorCode::Internal),
            (404, ErrorCode::ModelNotLoaded),
            (422, ErrorCode::Internal),
            (429, ErrorCode::Internal),
        ] {
            let answer = refused(&coordinator, &mut agent, endpoint, status, code, said).await;
            assert_eq!((answer.status, answer.content_type.as_str()), (status, JSON));
            if endpoint == Endpoint::Messages {
                let kind = match status {
                    404 => "not_found_error",
                    429 => "rate_limit_error",
                    _ => "invalid_request_error",
                };
                let want = serde_json::json!({"type": "error", "error": {"type": kind, "message": "too long"}});
                assert_eq!(answer.json(), want);
            } else {
                assert_eq!(answer.body, said, "as it is spelled");
            }
        }
    }
    let own = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"r"}"#;
    let answer = refused(&coordinator, &mut agent, Endpoint::Messages, 400, ErrorCode::Internal, own).await;
    assert_eq!(answer.body, own);
    let answer = refused(&coordinator, &mut agent, Endpoint::Completions, 400, ErrorCode::Internal, "").await;
    assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (400, Some("invalid_request_error")));
}

#[actix_rt::test]
async fn a_status_that_does_not_blame_the_request_is_a_bad_gateway() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::join_at(&coordinator, 1, &Endpoint::ALL).await;
    for (status, code, want) in [
        (500, ErrorCode::Internal, 502),
        (503, ErrorCode::Internal, 502),
        (401, ErrorCode::AuthRejectedByBackend, 502),
        (302, ErrorCode::Internal, 502),
    ] {
        let said = r#"{"error":{"message":"internal words","type":"x"}}"#;
        let answer = refused(&coordinator, &mut agent, Endpoint::ChatCompletions, status, code, said).await;
        assert_eq!(answer.status, want, "{status}");
        assert!(!answer.body.contains("internal words"));
    }
}

#[actix_rt::test]
async fn only_agents_that_offer_the_model_at_the_path_get_the_job() {
    let coordinator = Coordinator::start().await;
    let mut base = Agent::join(&coordinator, 1, &["m"], 4).await;
    let mut vectors = Agent::join_at(&coordinator, 2, &[Endpoint::Embeddings]).await;
    for _ in 0..3 {
        let body = whole(Endpoint::Embeddings);
        let asked = (Endpoint::Embeddings, WHOLE);
        assert_eq!(answered(&coordinator, &mut vectors, asked, (200, JSON), &body).await.body, body);
        let pending = coordinator.start_request(Endpoint::ChatCompletions.path(), STREAMED);
        let job = base.job().await.job_id;
        base.chunk(job, "data: [DONE]\n\n").await;
        base.done(job).await;
        assert_eq!(soon(pending).await.unwrap().status, 200);
    }
    let answer = coordinator.request(Endpoint::Responses.path(), WHOLE).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (404, &"model".into()));
    let answer = coordinator.request(Endpoint::Responses.path(), r#"{"model":"n"}"#).await;
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
}

#[actix_rt::test]
async fn a_job_for_a_model_that_a_backend_lacks_goes_to_another_agent() {
    let coordinator = Coordinator::start().await;
    let mut first = Agent::join_at(&coordinator, 1, &[Endpoint::Responses]).await;
    let mut second = Agent::join_at(&coordinator, 2, &[Endpoint::Responses]).await;
    let pending = coordinator.start_request(Endpoint::Responses.path(), WHOLE);
    let job = first.job().await.job_id;
    first.begin(job, 404, JSON, r#"{"error":{"message":"no such model"}}"#).await;
    first.fail(job, ErrorCode::ModelNotLoaded).await;
    let job = second.job().await.job_id;
    second.begin(job, 200, JSON, &whole(Endpoint::Responses)).await;
    second.done(job).await;
    assert_eq!(soon(pending).await.unwrap().body, whole(Endpoint::Responses));
}

#[actix_rt::test]
async fn an_agent_that_agreed_and_offers_no_paths_is_treated_as_a_base_agent() {
    let coordinator = Coordinator::start().await;
    let mut agent = Agent::agree(&coordinator, 1, &[Extension::Endpoints]).await;
    agent.offer(&["m"], 1).await;
    assert_eq!(coordinator.request(Endpoint::Embeddings.path(), WHOLE).await.status, 404);
    let pending = coordinator.start_request(Endpoint::ChatCompletions.path(), WHOLE);
    let job = agent.job().await.job_id;
    agent.begin(job, 200, JSON, &whole(Endpoint::ChatCompletions)).await;
    agent.done(job).await;
    assert_eq!(soon(pending).await.unwrap().body, whole(Endpoint::ChatCompletions));
}
