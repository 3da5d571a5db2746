//! What a client of the coordinator's API gets: answers as the agent sent them, and errors in its API's own shape.

use std::time::Duration;

use futures_util::StreamExt;
use outpost::messages::ids::ModelId;
use outpost::messages::wire::{ErrorCode, FromCoordinator};
use outpost::testkit::{Format, ScriptedAgent, Secret};

use super::fixture::{Answer, Coordinator, posting, soon, without_queue};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

const HELLO: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                     \"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hello\"},\
                     \"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                    \"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                     \"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

const MESSAGE: &str = "event: message_start\n\
    data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg\",\"type\":\"message\",\"role\":\"assistant\",\
    \"content\":[],\"model\":\"m\",\"stop_reason\":null,\"stop_sequence\":null,\
    \"usage\":{\"input_tokens\":3,\"output_tokens\":0}}}\n\n\
    event: content_block_start\n\
    data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
    event: content_block_delta\n\
    data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n\
    event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
    event: message_delta\n\
    data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\
    \"usage\":{\"output_tokens\":1}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// Has the agent answer one request with these chunks.
async fn answered(
    coordinator: &Coordinator,
    agent: &mut ScriptedAgent,
    path: &str,
    body: &str,
    chunks: &[&str],
) -> Answer {
    let asking = coordinator.asking(path, body);
    let job = agent.job().await;
    for chunk in chunks {
        agent.chunk(job.job_id, chunk).await;
    }
    agent.done(job.job_id).await;
    soon(asking).await.unwrap()
}

/// Has the agent refuse or fail one request.
async fn failed(coordinator: &Coordinator, agent: &mut ScriptedAgent, path: &str, code: ErrorCode) -> Answer {
    let asking = coordinator.asking(path, r#"{"model":"m"}"#);
    let job = agent.job().await;
    agent.fail(job.job_id, code).await;
    soon(asking).await.unwrap()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_carries_the_request_as_it_came() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m/1"], 1).await;
    let body = r#"{ "messages":[{"role":"user","content":"ü\u00e4"}],"x":1e5, "model":"m\/1" }"#;
    for (path, format) in [(CHAT, Format::OpenAi), (MESSAGES, Format::Anthropic)] {
        let _asking = coordinator.asking(path, body);
        let job = agent.job().await;
        assert_eq!((job.model_id, job.endpoint.format()), (ModelId::from("m/1"), format));
        assert_eq!(job.request, body);
        assert!(job.deadline <= Duration::from_secs(600) && job.deadline > Duration::from_secs(590));
        agent.fail(job.job_id, ErrorCode::Internal).await;
        agent.settle().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_is_relayed_unchanged_except_usage_that_was_not_requested() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let whole = [HELLO, STOP, USAGE, DONE].concat();
    let (first, second) = whole.split_at(HELLO.len() + STOP.len() + 30);
    for (path, options, want) in [
        (CHAT, "", [HELLO, STOP, DONE].concat()),
        (CHAT, r#","stream_options":{"include_usage":true}"#, whole.clone()),
        (MESSAGES, "", whole.clone()),
    ] {
        let body = format!(r#"{{"model":"m","stream":true{options}}}"#);
        let answer = answered(&coordinator, &mut agent, path, &body, &[first, "", second]).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/event-stream"));
        assert_eq!(answer.body, want);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn bytes_reach_the_client_while_the_job_runs() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.post(CHAT).send_body(r#"{"model":"m","stream":true}"#);
    let begin = async {
        let job = agent.job().await;
        agent.chunk(job.job_id, HELLO).await;
        job.job_id
    };
    let (response, job) = futures_util::join!(soon(asking), begin);
    let mut response = response.unwrap();
    assert_eq!(response.headers().get("x-accel-buffering").unwrap(), "no");
    assert_eq!(soon(response.next()).await.unwrap().unwrap(), HELLO);
    agent.chunk(job, STOP).await;
    assert_eq!(soon(response.next()).await.unwrap().unwrap(), STOP);
    agent.done(job).await;
    assert!(soon(response.next()).await.is_none());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_without_streaming_gets_one_object() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let chunks = [HELLO, STOP, USAGE, DONE];
    let chat = answered(&coordinator, &mut agent, CHAT, r#"{"model":"m"}"#, &chunks).await;
    assert_eq!((chat.status, chat.content_type.as_str()), (200, "application/json"));
    let chat = chat.json();
    assert_eq!(chat["object"], "chat.completion");
    assert_eq!(chat["choices"][0]["message"]["content"], "hello");
    assert_eq!(chat["choices"][0]["finish_reason"], "stop");
    assert_eq!(chat["usage"]["total_tokens"], 4);

    let message = answered(&coordinator, &mut agent, MESSAGES, r#"{"model":"m","stream":false}"#, &[MESSAGE]).await;
    assert_eq!((message.status, message.content_type.as_str()), (200, "application/json"));
    let message = message.json();
    assert_eq!(message["content"][0]["text"], "hello");
    assert_eq!(message["stop_reason"], "end_turn");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn half_a_response_is_not_made_into_an_object() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let answer = answered(&coordinator, &mut agent, CHAT, r#"{"model":"m"}"#, &[HELLO]).await;
    assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (502, Some("server_error")));
    let answer = answered(&coordinator, &mut agent, CHAT, r#"{"model":"m","stream":true}"#, &[]).await;
    assert_eq!(answer.status, 502);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_error_of_an_agent_has_its_status_in_both_apis() {
    let coordinator = Coordinator::start_with(without_queue).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for (code, status, openai, anthropic) in [
        (ErrorCode::OutOfCapacity, 429, "rate_limit_error", "rate_limit_error"),
        (ErrorCode::ModelNotLoaded, 404, "invalid_request_error", "not_found_error"),
        (ErrorCode::BackendUnreachable, 502, "server_error", "api_error"),
        (ErrorCode::BackendTimeout, 504, "server_error", "timeout_error"),
        (ErrorCode::AuthRejectedByBackend, 502, "server_error", "api_error"),
        (ErrorCode::Internal, 502, "server_error", "api_error"),
    ] {
        let answer = failed(&coordinator, &mut agent, CHAT, code).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (status, "application/json"));
        assert_eq!(answer.json()["error"]["type"], openai);
        // An agent that was full has slots again with its next offer.
        agent.offer(&["m"], 1).await;
        let answer = failed(&coordinator, &mut agent, MESSAGES, code).await;
        assert_eq!((answer.status, &answer.json()["type"]), (status, &"error".into()));
        assert_eq!(answer.json()["error"]["type"], anthropic);
        agent.offer(&["m"], 1).await;
    }
}

/// The last chunk of a body that is whole.
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_that_fails_late_ends_with_an_error_event_and_a_body_that_is_not_whole() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for (path, begun, want) in [
        (CHAT, "data: 1\n\ndata: hal", "data: {\"error\":{\"message\":\"the agent failed: internal: because\""),
        (
            MESSAGES,
            "event: x\ndata: hal",
            "\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"",
        ),
    ] {
        let asking = posting(coordinator.addr(), path, r#"{"model":"m","stream":true}"#);
        let job = agent.job().await;
        agent.chunk(job.job_id, begun).await;
        agent.fail(job.job_id, ErrorCode::Internal).await;
        let seen = soon(asking).await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 200 ") && seen.contains("transfer-encoding: chunked"), "{seen}");
        assert!(seen.contains(want) && seen.ends_with("}\n\n\r\n"), "{seen}");
        assert_eq!((seen.contains("\ndata: hal"), seen.contains(LAST_CHUNK)), (path == MESSAGES, false), "{seen}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_whose_agent_is_lost_is_cut_and_one_that_is_done_is_whole() {
    let coordinator = Coordinator::start().await;
    for path in [CHAT, MESSAGES] {
        let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
        let ask = || posting(coordinator.addr(), path, r#"{"model":"m","stream":true}"#);
        let asking = ask();
        let job = agent.job().await.job_id;
        agent.chunk(job, HELLO).await;
        agent.done(job).await;
        assert!(soon(asking).await.unwrap().ends_with(LAST_CHUNK));

        let asking = ask();
        let job = agent.job().await.job_id;
        agent.chunk(job, HELLO).await;
        agent.settle().await;
        drop(agent);
        let seen = soon(asking).await.unwrap();
        assert!(seen.contains("the connection to the agent was lost") && !seen.contains(LAST_CHUNK), "{seen}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_that_leaves_cancels_its_job_at_once_and_frees_the_slot() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;

    // Before the first byte of the answer.
    let asking = coordinator.asking(CHAT, r#"{"model":"m","stream":true}"#);
    let job = agent.job().await.job_id;
    asking.abort();
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id: job });

    // In the middle of it.
    let asking = coordinator.post(CHAT).send_body(r#"{"model":"m","stream":true}"#);
    let begin = async {
        let job = agent.job().await.job_id;
        agent.chunk(job, HELLO).await;
        job
    };
    let (response, job) = futures_util::join!(soon(asking), begin);
    drop(response.unwrap());
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id: job });

    // Later frames of the job have no recipient.
    agent.chunk(job, STOP).await;
    agent.done(job).await;
    let answer = answered(&coordinator, &mut agent, MESSAGES, r#"{"model":"m"}"#, &[MESSAGE]).await;
    assert_eq!(answer.status, 200);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_key_comes_in_either_header_and_must_be_right() {
    let coordinator = Coordinator::start_with(|config| config.api_key = Some(Secret::new("sk-right"))).await;
    for path in [CHAT, MESSAGES] {
        let answer = coordinator.ask(path, r#"{"model":"m"}"#).await;
        assert_eq!(answer.status, 401);
    }
    let wrong = coordinator.post(MESSAGES).insert_header(("x-api-key", "sk-wrong"));
    assert_eq!(Answer::of(wrong, "{}").await.json()["error"]["type"], "authentication_error");
    let wrong = coordinator.get("/v1/models").insert_header(("authorization", "Basic sk-right"));
    assert_eq!(Answer::of(wrong, "").await.json()["error"]["code"], "invalid_api_key");
    assert_eq!(Answer::of(coordinator.get("/api/agents"), "").await.status, 401);
    for header in
        [("authorization", "Bearer sk-right"), ("authorization", "bearer sk-right"), ("x-api-key", "sk-right")]
    {
        let right = coordinator.get("/v1/models").insert_header(header);
        assert_eq!(Answer::of(right, "").await.status, 200, "{header:?}");
    }
    assert_eq!(Answer::of(coordinator.get("/healthz"), "").await.status, 200);
    ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_can_not_be_read_is_refused_in_the_shape_of_its_api() {
    let coordinator = Coordinator::start_with(|config| config.max_job_message = 1000).await;
    let large = format!(r#"{{"model":"{}"}}"#, "m".repeat(1000));
    for (body, status, kind) in [
        ("", 400, "invalid_request_error"),
        ("{", 400, "invalid_request_error"),
        (r#"{"messages":[]}"#, 400, "invalid_request_error"),
        (r#"["m"]"#, 400, "invalid_request_error"),
        (large.as_str(), 413, "request_too_large"),
        (r#"{"model":"unheard of"}"#, 404, "not_found_error"),
    ] {
        let answer = coordinator.ask(MESSAGES, body).await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &kind.into()), "{body}");
        let answer = coordinator.ask(CHAT, body).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"].is_null()), (status, &(status != 404)), "{body}");
    }
    let answer = coordinator.ask(CHAT, r#"{"model":"unheard of"}"#).await;
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    assert_eq!(coordinator.ask("/v1/videos", "{}").await.json()["error"]["code"], "unknown_url");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn models_are_listed_once_with_what_is_known_of_them() {
    let coordinator = Coordinator::start().await;
    let _one = ScriptedAgent::join(coordinator.agent_url(), 1, &["m", "n"], 1).await;
    let _two = ScriptedAgent::join(coordinator.agent_url(), 2, &["m"], 1).await;
    let list = Answer::of(coordinator.get("/v1/models"), "").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m", "n"]);
    assert_eq!((&list["data"][0]["owned_by"], &list["data"][0]["context_window"]), (&"outpost".into(), &4096.into()));
}
