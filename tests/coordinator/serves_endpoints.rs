//! Clients of every path of the API, over agents that know of paths and over those that don't.

use outpost::messages::endpoint::{AnswerForm, Endpoint};
use outpost::messages::wire::{ErrorCode, Extension, FromAgent, JobError, JobTarget};
use outpost::testkit::{ScriptedAgent, answer, whole_answer};

use AnswerForm::{Stream, Whole};

use super::fixture::{Answer, Coordinator, soon};

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

/// Has the agent answer one request with this head and body.
async fn answered(
    coordinator: &Coordinator,
    agent: &mut ScriptedAgent,
    asked: (Endpoint, &str),
    head: (u16, &str),
    body: &str,
) -> Answer {
    let asking = coordinator.asking(asked.0.path(), asked.1);
    let job = agent.job().await.job_id;
    let (first, rest) = body.split_at(body.len() / 2);
    agent.begin(job, head.0, head.1, first).await;
    agent.binary_chunk(job, first.len() as u64, rest).await;
    agent.done(job).await;
    soon(asking).await.unwrap()
}

/// Has the agent refuse one request as its backend did.
async fn refused(
    coordinator: &Coordinator,
    agent: &mut ScriptedAgent,
    endpoint: Endpoint,
    status: u16,
    code: ErrorCode,
    body: &str,
) -> Answer {
    let asking = coordinator.asking(endpoint.path(), STREAMED);
    let job_id = agent.job().await.job_id;
    agent.begin(job_id, status, JSON, body).await;
    let error = JobError { job_id, error_code: code, message: "because".into(), tokens_emitted: body.len() as u64 };
    agent.send(&FromAgent::JobError(error)).await;
    soon(asking).await.unwrap()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_names_its_path_and_its_form_to_an_agent_that_knows_of_them() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
    for endpoint in Endpoint::ALL {
        for (body, form) in [(WHOLE, Whole), (STREAMED, Stream)] {
            let asking = coordinator.asking(endpoint.path(), body);
            let job = agent.job().await;
            let form = if endpoint == Endpoint::Embeddings { Whole } else { form };
            assert_eq!((job.target, &job.request[..]), (JobTarget::new(endpoint, form), body.as_bytes()));
            assert_eq!(job.endpoint.format(), endpoint.format());
            agent.fail(job.job_id, ErrorCode::Internal).await;
            assert_eq!(soon(asking).await.unwrap().status, 502);
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_without_the_extension_is_sent_no_path_and_its_stream_is_assembled() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages] {
        let asking = coordinator.asking(endpoint.path(), WHOLE);
        let job = agent.job().await;
        assert_eq!((job.target, job.endpoint), (JobTarget::BASE, endpoint));
        // What it was not agreed on with means nothing.
        agent.begin(job.job_id, 404, "text/html", &text(&answer(endpoint, "hello", 3, 5))).await;
        agent.done(job.job_id).await;
        let answer = soon(asking).await.unwrap();
        assert_eq!((answer.status, answer.content_type.as_str()), (200, JSON));
        assert!(answer.body.contains("hello"), "{}", answer.body);
    }
    for endpoint in [Endpoint::Completions, Endpoint::Embeddings, Endpoint::Responses] {
        let answer = coordinator.ask(endpoint.path(), WHOLE).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"endpoint_not_supported".into()));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_path_is_served_streamed_and_as_one_body() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
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

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_is_put_together_here_if_the_agent_did_not_and_other_types_are_not_passed_on() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
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
        // Another one each time: it may have been sent a cancel by the end.
        let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
        let answer = answered(&coordinator, &mut agent, (chat, asked), head, &body).await;
        let seen = (answer.status, answer.json()["error"]["type"].as_str().map(str::to_owned));
        assert_eq!(seen, (502, Some("server_error".into())), "{head:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_body_whose_job_fails_is_not_sent() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
    let asking = coordinator.asking(Endpoint::Embeddings.path(), WHOLE);
    let job = agent.job().await.job_id;
    agent.begin(job, 200, JSON, &whole(Endpoint::Embeddings)).await;
    agent.fail(job, ErrorCode::BackendTimeout).await;
    assert_eq!(soon(asking).await.unwrap().status, 504);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backends_refusal_reaches_the_client_with_its_status_and_in_its_shape() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
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

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_fault_that_is_not_the_requests_is_the_gateways() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
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

#[actix_rt::test(system = "outpost::testkit::System")]
async fn only_agents_that_offer_the_model_at_the_path_get_the_job() {
    let coordinator = Coordinator::start().await;
    let mut base = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 4).await;
    let mut vectors = ScriptedAgent::join_at(coordinator.agent_url(), 2, &[Endpoint::Embeddings]).await;
    for _ in 0..3 {
        let body = whole(Endpoint::Embeddings);
        let asked = (Endpoint::Embeddings, WHOLE);
        assert_eq!(answered(&coordinator, &mut vectors, asked, (200, JSON), &body).await.body, body);
        let asking = coordinator.asking(Endpoint::ChatCompletions.path(), STREAMED);
        let job = base.job().await.job_id;
        base.chunk(job, "data: [DONE]\n\n").await;
        base.done(job).await;
        assert_eq!(soon(asking).await.unwrap().status, 200);
    }
    let answer = coordinator.ask(Endpoint::Responses.path(), WHOLE).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (404, &"model".into()));
    let answer = coordinator.ask(Endpoint::Responses.path(), r#"{"model":"n"}"#).await;
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_for_a_model_that_one_backend_lacks_goes_to_another_agent() {
    let coordinator = Coordinator::start().await;
    let mut first = ScriptedAgent::join_at(coordinator.agent_url(), 1, &[Endpoint::Responses]).await;
    let mut second = ScriptedAgent::join_at(coordinator.agent_url(), 2, &[Endpoint::Responses]).await;
    let asking = coordinator.asking(Endpoint::Responses.path(), WHOLE);
    let job = first.job().await.job_id;
    first.begin(job, 404, JSON, r#"{"error":{"message":"no such model"}}"#).await;
    first.fail(job, ErrorCode::ModelNotLoaded).await;
    let job = second.job().await.job_id;
    second.begin(job, 200, JSON, &whole(Endpoint::Responses)).await;
    second.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, whole(Endpoint::Responses));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_agreed_and_names_no_paths_is_taken_for_a_base_agent() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), 1, &[Extension::Endpoints]).await;
    agent.offer(&["m"], 1).await;
    assert_eq!(coordinator.ask(Endpoint::Embeddings.path(), WHOLE).await.status, 404);
    let asking = coordinator.asking(Endpoint::ChatCompletions.path(), WHOLE);
    let job = agent.job().await.job_id;
    agent.begin(job, 200, JSON, &whole(Endpoint::ChatCompletions)).await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, whole(Endpoint::ChatCompletions));
}
