//! Agents and clients that send too much, too fast or the wrong thing.

use std::time::Duration;

use bytes::Bytes;
use outpost::conformance::{End, Fragment};
use outpost::messages::ids::JobId;
use outpost::messages::wire::{Extension, Extensions, FromAgent, FromCoordinator, JobChunk, KeptJob};
use outpost::testkit::{AgentEvent, Frame, ScriptedAgent, agent_key};

use super::fixture::{Answer, Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

async fn works(coordinator: &Coordinator, agent: &mut ScriptedAgent) {
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, DONE).await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_frame_that_announces_too_much_ends_the_session_before_it_arrives() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let gigabyte = [0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4];
    agent.send_raw(&gigabyte).await;
    assert_eq!(agent.closed().await, Some((1009, "frame too large".into())));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_has_not_proved_its_key_may_send_little() {
    for (offer, too_much) in [(Extensions::NONE, 17 << 10), (Extensions::all(), 513 << 10)] {
        let coordinator = Coordinator::start_with(|config| config.extensions = offer).await;
        let (mut agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
        agent.text("x".repeat(too_much)).await;
        assert_eq!(agent.event().await, AgentEvent::Close(Some((1009, "frame too large".into()))));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_may_list_as_many_jobs_as_it_keeps() {
    let coordinator = Coordinator::start().await;
    let session = ScriptedAgent::agree(coordinator.agent_url(), 1, &[Extension::Resume]).await.session.unwrap();
    let kept = || KeptJob { job_id: JobId::random(), offset: u64::MAX, ended: false };
    let jobs: Vec<KeptJob> = (0..4096).map(|_| kept()).collect();
    let (agent, _) = ScriptedAgent::resume(coordinator.agent_url(), 1, &[Extension::Resume], session, &jobs).await;
    assert!(agent.session.is_some());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn only_a_few_agents_that_have_not_proved_their_keys_may_list_many_jobs_at_the_same_time() {
    let coordinator = Coordinator::start().await;
    let dial = async || ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await.0;
    let large = "x".repeat(100 << 10);
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(dial().await);
    }
    let mut late = dial().await;
    late.text(large.clone()).await;
    assert_eq!(late.event().await, AgentEvent::Close(Some((1009, "frame too large".into()))));
    let mut early = silent.pop().unwrap();
    early.text(large).await;
    assert_eq!(early.event().await, AgentEvent::Close(Some((1002, "expected auth_response".into()))));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_large_chunk_within_the_bound_is_relayed() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let large = format!("data: {}\n\n", "x".repeat(3 << 20));
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, &large).await;
    agent.done(job).await;
    assert!(soon(asking).await.unwrap().body == large);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_large_request_reaches_the_agent_whole() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let large = format!(r#"{{"model":"m","x":"{}"}}"#, "y".repeat(5 << 20));
    let _asking = coordinator.asking(CHAT, &large);
    assert!(agent.job().await.request == large);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn fragments_are_put_together_within_the_bound() {
    let coordinator = Coordinator::start_with(|config| config.max_agent_message = 100_000).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job_id = agent.job().await.job_id;
    let chunk = JobChunk::new(job_id, "ZGF0YTogW0RPTkVdCgo=".into());
    let text = serde_json::to_string(&FromAgent::JobChunk(chunk)).unwrap();
    let (start, end) = text.split_at(20);
    let text = |text: &str| Frame::Text(Bytes::copy_from_slice(text.as_bytes()));
    agent.send_fragment(&text(start), Fragment::First).await;
    agent.send_frame(&Frame::Ping(Bytes::new())).await;
    agent.send_fragment(&text(end), Fragment::Last).await;
    assert_eq!(agent.event().await, AgentEvent::Pong);
    agent.done(job_id).await;
    assert_eq!(soon(asking).await.unwrap().body, DONE);

    let half = Frame::Text(Bytes::from(vec![b'x'; 60_000]));
    agent.send_fragment(&half, Fragment::First).await;
    agent.send_fragment(&half, Fragment::Middle).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1009, "message too large".into()))));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn text_that_is_not_utf_8_ends_the_session() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.binary(b"x".to_vec()).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1002, "unexpected binary message".into()))));

    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.send_fragment(&Frame::Binary(Bytes::new()), Fragment::First).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1002, "unexpected fragment".into()))));

    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    agent.send_raw(&[0xf1, 0x80, 1, 2, 3, 4]).await;
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1002, "not WebSocket".into()))));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn frames_that_make_no_sense_are_skipped() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for text in ["", "{", "[]", r#"{"type":"later","x":[{}]}"#, r#"{"type":"capabilities","models":7}"#] {
        agent.text(text.into()).await;
    }
    agent.chunk(JobId::random(), "nobody's").await;
    agent.done(JobId::random()).await;
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_chunk_that_can_not_be_read_ends_its_job_and_no_other() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job_id = agent.job().await.job_id;
    agent.send(&FromAgent::JobChunk(JobChunk::new(job_id, "not base64".into()))).await;
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    assert_eq!(soon(asking).await.unwrap().status, 502);
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_frame_of_a_job_that_can_not_be_read_ends_its_job_and_no_other() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for fields in [
        r#""type":"job_done""#,
        r#""type":"job_error","error_code":7,"message":"x","tokens_emitted":0"#,
        r#""type":"job_error","error_code":"internal","message":"x","tokens_emitted":-1"#,
        r#""type":"job_chunk","data":[]"#,
    ] {
        let asking = coordinator.asking(CHAT, STREAM);
        let job_id = agent.job().await.job_id;
        agent.text(format!(r#"{{{fields},"job_id":"{job_id}"}}"#)).await;
        assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
        assert_eq!(soon(asking).await.unwrap().status, 502, "{fields}");
    }
    works(&coordinator, &mut agent).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_offer_of_more_models_than_are_taken_is_cut() {
    let coordinator = Coordinator::start().await;
    let names: Vec<String> = (0..5000).map(|number| format!("m{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let _agent = ScriptedAgent::join(coordinator.agent_url(), 1, &names, 1).await;
    let models = Answer::of(coordinator.get("/v1/models"), "").await.json();
    assert_eq!(models["data"].as_array().unwrap().len(), 4096);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_that_does_not_keep_up_loses_its_job_and_no_other() {
    let coordinator = Coordinator::start_with(|config| config.max_buffered = 1 << 20).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 2).await;
    let asking = coordinator.post(CHAT).send_body(STREAM);
    let begin = async {
        let job_id = agent.job().await.job_id;
        agent.chunk(job_id, "data: 1\n\n").await;
        job_id
    };
    let (response, job_id) = futures_util::join!(soon(asking), begin);
    let mut response = response.unwrap();
    // The client reads nothing; the sockets between take some megabytes.
    let piece = "x".repeat(256 << 10);
    for _ in 0..80 {
        agent.chunk(job_id, &piece).await;
    }
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    works(&coordinator, &mut agent).await;
    let body = soon(response.body().limit(64 << 20)).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.len() < 80 * piece.len());
    let (_, event) = body.rsplit_once("\n\ndata: ").unwrap();
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["message"], "the answer was read too slowly");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_lets_the_deadline_pass_is_sent_a_cancel() {
    let coordinator = Coordinator::start_with(|config| {
        config.job_timeout = Duration::from_millis(1);
        config.deadline_margin = Duration::from_millis(1);
    })
    .await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job_id = agent.job().await.job_id;
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
    assert_eq!(soon(asking).await.unwrap().status, 504);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_peer_that_reads_nothing_has_no_longer_than_the_time_of_its_handshake() {
    let coordinator = Coordinator::start_with(|config| config.handshake_timeout = Duration::from_secs(1)).await;
    let (mut agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    let ping = Frame::Ping(Bytes::from(vec![b'x'; 125]));
    // Each is answered, until the socket is full and the session does not run.
    let end = soon(async {
        loop {
            if let Err(end) = agent.try_send_frame(&ping).await {
                return end;
            }
        }
    });
    let end = end.await;
    assert!(matches!(end, End::Broken(_)), "{end}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_reads_nothing_is_disconnected() {
    let coordinator = Coordinator::start_with(|config| config.agent_silence = Duration::from_secs(1)).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let large = format!(r#"{{"model":"m","x":"{}"}}"#, "y".repeat(20 << 20));
    let mut asking = coordinator.asking(CHAT, &large);
    // It is not silent: it only reads nothing. Linux puts off its probe of the full window with each segment that arrives.
    let mut beat = actix_rt::time::interval(Duration::from_millis(50));
    let answer = soon(async {
        loop {
            tokio::select! {
                answer = &mut asking => return answer.unwrap(),
                _ = beat.tick() => drop(agent.try_send_frame(&Frame::Ping(Bytes::new())).await),
            }
        }
    });
    assert_eq!(answer.await.status, 502);
}
