//! What a client puts into a request, and what of it reaches the backend, by kind of server and by endpoint.

use outpost::messages::endpoint::{AnswerForm, Endpoint, Endpoints};
use outpost::messages::wire::{ErrorCode, Extension, Extensions, ResponseHead};
use outpost::testkit::{BackendKind, CoordinatorLink, Harness, JobTrace, RemoteMedia, ScriptedBackend, job_frame_at};
use serde_json::{Value, json};

/// A backend of a kind, and an agent that offers it to a coordinator with `endpoints`.
async fn agent(kind: BackendKind, media: RemoteMedia) -> (ScriptedBackend, Harness, CoordinatorLink) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| report.kind = kind);
    let (harness, link) = agent_of(&backend, media).await;
    (backend, harness, link)
}

async fn agent_of(backend: &ScriptedBackend, media: RemoteMedia) -> (Harness, CoordinatorLink) {
    let builder = Harness::builder().backend(backend).settings(|settings| settings.remote_media = media);
    let mut harness = builder.start();
    harness.coordinator.offer([Extension::Endpoints].into_iter().collect::<Extensions>());
    let link = harness.connect().await;
    (harness, link)
}

async fn served(link: &mut CoordinatorLink, endpoint: Endpoint, request: &'static str) -> JobTrace {
    let job = job_frame_at(endpoint, AnswerForm::Stream, "m", request);
    link.send_job(&job);
    link.outcome_of(job.job_id).await
}

fn members(body: &Value) -> Vec<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Refused by the agent itself, with a response body that says why in the shape of the client's API.
fn assert_refused(trace: &JobTrace, endpoint: Endpoint) {
    assert_eq!((trace.code(), &trace.head), (ErrorCode::Internal, &Some(ResponseHead::new(400, "application/json"))));
    let body: Value = serde_json::from_slice(&trace.bytes).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert_eq!(body.get("type").is_some(), endpoint == Endpoint::Messages);
    assert_eq!(body["error"]["message"].as_str(), Some(trace.error().message.as_str()));
}

const LOCAL: BackendKind = BackendKind::Vllm;

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_service_gets_only_listed_members_and_a_local_engine_all_but_some() {
    let request = r#"{"messages":[{"role":"user","content":"x"}],"temperature":0.5,"api_base":"http://169.254.169.254",
        "models":["dear"],"web_search_options":{},"mirostat":2,"lora":[{"id":0}],"b\u0061ckend":"x"}"#;
    let own = ["model", "stream", "stream_options"];
    for (kind, sent) in [
        (BackendKind::OpenRouter, vec!["messages", "temperature"]),
        (BackendKind::LiteLlm, vec!["messages", "temperature"]),
        (BackendKind::LlamaCpp, vec!["messages", "mirostat", "temperature"]),
    ] {
        let (backend, harness, mut link) = agent(kind, RemoteMedia::Refused).await;
        served(&mut link, Endpoint::ChatCompletions, request).await.done();
        let body = backend.request().await.json();
        let mut expected = [&sent[..], &own[..]].concat();
        expected.sort_unstable();
        assert_eq!(members(&body), expected, "{kind}");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_would_have_the_backend_fetch_reaches_none() {
    let chat = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]}"#;
    let messages = r#"{"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"http://169.254.169.254/"}}]}]}"#;
    let responses =
        r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"\u0068ttp://169.254.169.254/"}]}]}"#;
    let (backend, harness, mut link) = agent(LOCAL, RemoteMedia::Refused).await;
    for (endpoint, request) in
        [(Endpoint::ChatCompletions, chat), (Endpoint::Messages, messages), (Endpoint::Responses, responses)]
    {
        assert_refused(&served(&mut link, endpoint, request).await, endpoint);
    }
    assert!(backend.requests().is_empty());
    harness.stop().await;

    let (backend, harness, mut link) = agent(LOCAL, RemoteMedia::Allowed).await;
    served(&mut link, Endpoint::ChatCompletions, chat).await.done();
    assert_eq!(backend.requests().len(), 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_translated_request_is_held_to_the_same_rules() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.set_report(|report| report.models[0].endpoints = Endpoints::CHAT);
    let (harness, mut link) = agent_of(&backend, RemoteMedia::Refused).await;
    let remote = r#"{"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",
        "content":[{"type":"image","source":{"type":"url","url":"http://169.254.169.254/"}}]}]}]}"#;
    for request in [remote, r#"{"messages":[],"mcp_servers":[{"type":"url","url":"http://169.254.169.254"}]}"#] {
        assert_refused(&served(&mut link, Endpoint::Messages, request).await, Endpoint::Messages);
    }
    assert!(backend.requests().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_is_neither_stored_nor_run_in_the_background() {
    let (backend, harness, mut link) = agent(LOCAL, RemoteMedia::Refused).await;
    for request in [
        r#"{"input":"x","background":true}"#,
        r#"{"input":"x","previous_response_id":"resp_1"}"#,
        r#"{"input":"x","conversation":"conv_1"}"#,
        r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
        r#"{"input":"x","tools":[{"type":"mcp","server_url":"http://169.254.169.254"}]}"#,
    ] {
        assert_refused(&served(&mut link, Endpoint::Responses, request).await, Endpoint::Responses);
    }
    assert!(backend.requests().is_empty());
    let request = r#"{"input":"x","store":true,"background":false,"previous_response_id":null}"#;
    served(&mut link, Endpoint::Responses, request).await.done();
    assert_eq!(backend.request().await.json(), json!({"input": "x", "model": "m", "stream": true, "store": false}));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn one_request_asks_for_few_generations() {
    let (backend, harness, mut link) = agent(LOCAL, RemoteMedia::Refused).await;
    for (endpoint, request) in [
        (Endpoint::ChatCompletions, r#"{"messages":[],"n":10000}"#),
        (Endpoint::Completions, r#"{"prompt":"x","best_of":9}"#),
        (Endpoint::Completions, r#"{"prompt":["a","b","c"],"n":3}"#),
    ] {
        assert_refused(&served(&mut link, endpoint, request).await, endpoint);
    }
    assert!(backend.requests().is_empty());
    served(&mut link, Endpoint::ChatCompletions, r#"{"messages":[],"n":2}"#).await.done();
    harness.stop().await;
}
