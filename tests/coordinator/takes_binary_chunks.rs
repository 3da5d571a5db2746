//! Agents that agreed on binary chunks, and what those must be like.

use bytes::Bytes;
use outpost::conformance::Fragment;
use outpost::messages::ids::JobId;
use outpost::messages::wire::{AuthResponse, BinaryChunk, Extension, Extensions, FromAgent, FromCoordinator};
use outpost::testkit::{AgentEvent, Frame, ScriptedAgent, agent_key};

use super::fixture::{Answer, Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const HELLO: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                     \"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hello\"},\
                     \"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Has the agent answer one request with these chunks, in binary.
async fn answered(coordinator: &Coordinator, agent: &mut ScriptedAgent, body: &str, chunks: &[&str]) -> Answer {
    let asking = coordinator.asking(CHAT, body);
    let job = agent.job().await.job_id;
    let mut offset = 0;
    for chunk in chunks {
        agent.binary_chunk(job, offset, chunk).await;
        offset += chunk.len() as u64;
    }
    agent.done(job).await;
    soon(asking).await.unwrap()
}

async fn closed_with(agent: &mut ScriptedAgent, reason: &str) {
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1002, reason.into()))));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn binary_chunks_are_relayed_as_they_come_and_put_together() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
    let (start, end) = HELLO.split_at(50);
    let streamed = answered(&coordinator, &mut agent, STREAM, &[start, "", end, DONE]).await;
    assert_eq!((streamed.status, streamed.body), (200, format!("{HELLO}{DONE}")));
    let whole = answered(&coordinator, &mut agent, r#"{"model":"m"}"#, &[start, end, DONE]).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "hello");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_large_binary_chunk_is_relayed_and_one_in_fragments_too() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
    let large = format!("data: {}\n\n", "x".repeat(3 << 20));
    assert!(answered(&coordinator, &mut agent, STREAM, &[&large]).await.body == large);

    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    let chunk = Bytes::from([&BinaryChunk::head(job.uuid(), 0)[..], DONE.as_bytes()].concat());
    for (range, place) in [(0..10, Fragment::First), (10..30, Fragment::Middle), (30..chunk.len(), Fragment::Last)] {
        agent.send_fragment(&Frame::Binary(chunk.slice(range)), place).await;
    }
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn operators_see_what_was_agreed_on() {
    let coordinator = Coordinator::start().await;
    let _binary = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
    let _base = ScriptedAgent::join(coordinator.agent_url(), 2, &["m"], 1).await;
    let agents = Answer::of(coordinator.get("/api/agents"), "").await.json();
    assert_eq!(agents[0]["extensions"], serde_json::json!(["binary"]));
    assert_eq!(agents[1]["extensions"], serde_json::json!([]));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_binary_frame_ends_the_session() {
    let coordinator = Coordinator::start().await;
    let head = BinaryChunk::head(JobId::random().uuid(), 0);
    for (frame, reason) in [
        (vec![], "binary frame too short"),
        (vec![1], "binary frame too short"),
        (head[..24].to_vec(), "binary frame too short"),
        (vec![2], "binary frame of another version"),
        ([&[0], &head[1..]].concat(), "binary frame of another version"),
    ] {
        let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
        agent.binary(frame).await;
        closed_with(&mut agent, reason).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_chunk_out_of_place_ends_the_session_and_its_jobs() {
    let coordinator = Coordinator::start().await;
    for offset in [0, 4, 6, u64::MAX] {
        let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
        let asking = coordinator.asking(CHAT, r#"{"model":"m"}"#);
        let job = agent.job().await.job_id;
        agent.binary_chunk(job, 0, "hello").await;
        agent.binary_chunk(job, offset, "again").await;
        closed_with(&mut agent, "chunk at a wrong offset").await;
        assert_eq!(soon(asking).await.unwrap().status, 502, "{offset}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn offsets_are_of_each_job_alone() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 2).await;
    let (one, two) = (coordinator.asking(CHAT, STREAM), coordinator.asking(CHAT, STREAM));
    let (first, second) = (agent.job().await.job_id, agent.job().await.job_id);
    for (offset, piece) in [(0, "data: [DO"), (9, "NE]\n\n")] {
        agent.binary_chunk(first, offset, piece).await;
        agent.binary_chunk(second, offset, piece).await;
    }
    agent.done(second).await;
    agent.done(first).await;
    for asking in [one, two] {
        assert_eq!(soon(asking).await.unwrap().body, DONE);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_chunk_of_an_unknown_job_is_skipped_because_it_may_have_crossed_a_cancel() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.binary_chunk(JobId::random(), 0, "x").await;
    agent.binary_chunk(JobId::random(), 7, "x").await;
    let request = coordinator.post(CHAT).send_body(STREAM);
    let begin = async {
        let job = agent.job().await.job_id;
        agent.binary_chunk(job, 0, "data: 1\n\n").await;
        job
    };
    let (response, job_id) = futures_util::join!(soon(request), begin);
    drop(response.unwrap());
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    agent.binary_chunk(job_id, 9, "late").await;
    assert_eq!(answered(&coordinator, &mut agent, STREAM, &[DONE]).await.body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn chunks_of_text_count_for_the_offsets_of_binary_ones() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, HELLO).await;
    agent.binary_chunk(job, HELLO.len() as u64, DONE).await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, format!("{HELLO}{DONE}"));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_extension_that_was_not_offered_is_never_agreed_on() {
    let coordinator = Coordinator::start_with(|config| config.extensions = Extensions::NONE).await;
    let mut agent = ScriptedAgent::join_binary(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.binary_chunk(JobId::random(), 0, "x").await;
    closed_with(&mut agent, "unexpected binary message").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_challenge_offers_what_the_configuration_says() {
    // For `auth2` it would need to know its names.
    for offer in [Extensions::NONE, Extensions::all().without(Extension::Auth2)] {
        let coordinator = Coordinator::start_with(|config| config.extensions = offer).await;
        let mut agent = ScriptedAgent::open(coordinator.agent_url(), agent_key(1)).await;
        let FromCoordinator::AuthChallenge { extensions, .. } = agent.frame().await else { panic!("no challenge") };
        assert_eq!(extensions, offer);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_malformed_list_of_extensions_is_taken_as_empty() {
    let coordinator = Coordinator::start().await;
    for extensions in [r#""binary""#, "null", "7", r#"["weather"]"#, r#"["binary",{}]"#, r#"{"a":[[]]}"#] {
        let (mut agent, nonce) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
        let response = AuthResponse { extensions: Extensions::NONE, ..agent.response(&nonce, None) };
        let text = serde_json::to_string(&FromAgent::AuthResponse(response)).unwrap();
        agent.text(text.replacen('{', &format!(r#"{{"extensions":{extensions},"#), 1)).await;
        assert!(matches!(agent.frame().await, FromCoordinator::AuthOk(_)), "{extensions}");
        agent.binary_chunk(JobId::random(), 0, "x").await;
        closed_with(&mut agent, "unexpected binary message").await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn before_the_handshake_is_done_nothing_binary_is_taken() {
    let coordinator = Coordinator::start().await;
    let (mut agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    agent.binary_chunk(JobId::random(), 0, "x").await;
    closed_with(&mut agent, "unexpected binary message").await;
    let (mut agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    agent.send_fragment(&Frame::Binary(Bytes::new()), Fragment::First).await;
    closed_with(&mut agent, "unexpected fragment").await;
}
