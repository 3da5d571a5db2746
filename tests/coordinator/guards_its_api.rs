//! Requests that the coordinator's API refuses without sending them to an agent.

use outpost::internals::{AgentConfig, MapEnvironment};
use outpost::testkit::{ScriptedAgent, Secret};

use super::fixture::{Answer, Coordinator, config, soon};

const CHAT: &str = "/v1/chat/completions";
const ASK: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

/// A request body of `length` bytes.
fn request_of(length: usize) -> String {
    let head = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"x":""#;
    format!("{head}{}\"}}", "y".repeat(length - head.len() - 2))
}

/// Checks that the agent has a free slot and was sent no other job.
async fn works(coordinator: &Coordinator, agent: &mut ScriptedAgent) {
    let asking = coordinator.asking(CHAT, ASK);
    let job = agent.job().await;
    assert_eq!(job.request, ASK);
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_body_nested_deeper_than_an_agent_accepts_is_refused() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(1030), "]".repeat(1030));
    let answer = coordinator.ask(CHAT, &deep).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (400, Some("invalid_request")));
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_whose_message_is_too_large_is_sent_to_no_agent() {
    let coordinator = Coordinator::start_with(|config| config.max_job_message = 2000).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    // A body of 2000 bytes is within the limit, the message that holds it is not.
    for length in [2000, 2001] {
        let answer = coordinator.ask(CHAT, &request_of(length)).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("request_too_large")));
    }
    works(&coordinator, &mut agent).await;
}

#[test]
fn the_largest_job_message_is_below_the_default_limit_of_an_agent() {
    let env =
        MapEnvironment::from([("OUTPOST_COORDINATOR_URL", "wss://coordinator.example/agent"), ("HOME", "/home/x")]);
    let (agent, _) = AgentConfig::from_env(&env).unwrap();
    let coordinator = config();
    assert!(coordinator.max_job_message <= agent.max_message_size / 4 * 3);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_sum_of_request_bodies_that_are_held_is_bounded() {
    let coordinator = Coordinator::start_with(|config| config.max_request_memory = 2000).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 4).await;
    let large = request_of(1500);
    let first = coordinator.asking(CHAT, &large);
    let job = agent.job().await;
    let mut refused = soon(coordinator.post(CHAT).send_body(large.clone())).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers().get("retry-after").unwrap(), "1");
    assert!(String::from_utf8(soon(refused.body()).await.unwrap().to_vec()).unwrap().contains("\"overloaded\""));
    // A small body still fits. Once an answer has begun its body is no longer held.
    works(&coordinator, &mut agent).await;
    agent.chunk(job.job_id, "data: 1\n\n").await;
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(first).await.unwrap().status, 200);
    let second = coordinator.asking(CHAT, &large);
    let job = agent.job().await;
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(second).await.unwrap().status, 200);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_key_only_programs_on_this_machine_are_served() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for header in [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
    ] {
        for path in ["/v1/models", "/api/agents"] {
            let answer = Answer::of(coordinator.get(path).insert_header(header), "").await;
            assert_eq!(
                (answer.status, answer.json()["error"]["code"].as_str()),
                (403, Some("forbidden")),
                "{header:?}"
            );
        }
        for path in [CHAT, "/v1/messages"] {
            assert_eq!(Answer::of(coordinator.post(path).insert_header(header), ASK).await.status, 403, "{header:?}");
        }
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let answer = Answer::of(coordinator.post(CHAT).content_type(kind), ASK).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (415, Some("unsupported_media_type")),
            "{kind}"
        );
    }
    let host = format!("localhost:{}", coordinator.addr().port());
    let own = coordinator.get("/v1/models").insert_header(("host", host.clone()));
    let own = own.insert_header(("origin", format!("http://{host}")));
    assert_eq!(Answer::of(own, "").await.status, 200);
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn with_a_key_the_key_alone_decides() {
    let coordinator = Coordinator::start_with(|config| config.api_key = Some(Secret::new("sk-1"))).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let request = coordinator.post(CHAT).content_type("text/plain").insert_header(("host", "llm.example"));
    let request = request.insert_header(("origin", "https://chat.example")).insert_header(("via", "1.1 proxy"));
    let asking = actix_rt::spawn(async move { Answer::of(request.bearer_auth("sk-1"), ASK).await });
    let job = agent.job().await;
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}
