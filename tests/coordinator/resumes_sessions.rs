//! Jobs that outlive the connection of their agent: it comes back and goes on, or does not come back in time.

use std::time::Duration;

use actix_rt::task::JoinHandle;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use outpost::messages::ids::{JobId, SessionName};
use outpost::messages::wire::{AuthOk, Extension, FromCoordinator, KeptJob, WantedJob};
use outpost::testkit::{AgentEvent, ScriptedAgent};

use super::fixture::{Answer, Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const RESPONSE: &str = "data: 1\n\ndata: two\n\ndata: [DONE]\n\n";
const ALL: [Extension; 3] = [Extension::Binary, Extension::Endpoints, Extension::Resume];

/// The agent with this number, with `resume` agreed and the model `m` on offer.
async fn join(coordinator: &Coordinator, number: u8) -> ScriptedAgent {
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), number, &ALL).await;
    agent.offer(&["m"], 4).await;
    agent
}

/// The same on a new connection, with these jobs.
async fn resume(
    coordinator: &Coordinator,
    number: u8,
    session: &SessionName,
    jobs: &[(JobId, usize)],
) -> (ScriptedAgent, AuthOk) {
    let kept = |(job_id, offset): &(JobId, usize)| KeptJob { job_id: *job_id, offset: *offset as u64, ended: false };
    let jobs: Vec<KeptJob> = jobs.iter().map(kept).collect();
    ScriptedAgent::resume(coordinator.agent_url(), number, &ALL, session.clone(), &jobs).await
}

fn wanted(jobs: &[(JobId, usize)]) -> Option<Vec<WantedJob>> {
    Some(jobs.iter().map(|(job_id, offset)| WantedJob { job_id: *job_id, offset: *offset as u64 }).collect())
}

/// A value of `/metrics`.
async fn metric(coordinator: &Coordinator, name: &str) -> Option<f64> {
    let page = Answer::of(coordinator.get("/metrics"), "").await.body;
    let value = page.lines().find_map(|line| line.strip_prefix("outpost_coordinator_")?.strip_prefix(name)?.get(1..));
    value.map(|value| value.parse().unwrap())
}

/// Waits until so many jobs wait for agents.
async fn waiting(coordinator: &Coordinator, jobs: f64) {
    soon(async { while metric(coordinator, "jobs_waiting").await != Some(jobs) {} }).await;
}

/// A request whose response has begun with these bytes.
async fn begun(coordinator: &Coordinator, agent: &mut ScriptedAgent, first: &str) -> (JoinHandle<Answer>, JobId) {
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.begin(job, 200, "text/event-stream", first).await;
    agent.settle().await;
    (asking, job)
}

/// The same with the client's end of the stream.
async fn streaming(
    coordinator: &Coordinator,
    agent: &mut ScriptedAgent,
    first: &str,
) -> (impl Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin + use<>, JobId) {
    let asking = coordinator.post(CHAT).send_body(STREAM);
    let begin = async {
        let job = agent.job().await.job_id;
        agent.begin(job, 200, "text/event-stream", first).await;
        job
    };
    let (response, job) = futures_util::join!(soon(asking), begin);
    (response.unwrap(), job)
}

/// Reads a stream up to this text.
async fn read_up_to(
    stream: &mut (impl Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin),
    end: &str,
) -> String {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let piece = soon(stream.next()).await.unwrap_or_else(|| panic!("the stream ended after {seen:?}")).unwrap();
        seen.push_str(std::str::from_utf8(&piece).unwrap());
    }
    seen
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_goes_on_after_a_cut_at_any_byte() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    for cut in [0, 1, 9, 10, RESPONSE.len() - 1, RESPONSE.len()] {
        let session = agent.session.clone().unwrap();
        let (asking, job) = begun(&coordinator, &mut agent, "").await;
        agent.binary_chunk(job, 0, &RESPONSE[..cut]).await;
        agent.settle().await;
        drop(agent);
        waiting(&coordinator, 1.0).await;
        let agents = Answer::of(coordinator.get("/api/agents"), "").await;
        assert_eq!(agents.body, "[]");
        let (mut again, ok) = resume(&coordinator, 1, &session, &[(job, RESPONSE.len())]).await;
        assert_eq!((ok.resumed, ok.jobs), (true, wanted(&[(job, cut)])));
        assert_eq!(ok.resume_window, Some(Duration::from_secs(60)));
        again.binary_chunk(job, cut as u64, &RESPONSE[cut..]).await;
        again.done(job).await;
        let answer = soon(asking).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, RESPONSE), "{cut}");
        again.offer(&["m"], 4).await;
        agent = again;
    }
    assert_eq!(metric(&coordinator, "sessions_total{change=\"waits\"}").await, Some(6.0));
    assert_eq!(metric(&coordinator, "sessions_total{change=\"resumed\"}").await, Some(6.0));
    assert_eq!(metric(&coordinator, "jobs_total{outcome=\"done\",cause=\"none\"}").await, Some(6.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn bytes_and_a_head_that_come_again_are_skipped() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    let (asking, job) = begun(&coordinator, &mut agent, "data: 1\n").await;
    let session = agent.session.clone().unwrap();
    let (mut again, ok) = resume(&coordinator, 1, &session, &[(job, 8)]).await;
    assert_eq!(ok.jobs, wanted(&[(job, 8)]));
    // The agent goes on before the offset that is wanted.
    again.chunk_at(job, 0, &RESPONSE[..12]).await;
    again.binary_chunk(job, 3, &RESPONSE[3..9]).await;
    again.chunk_at(job, 10, &RESPONSE[10..]).await;
    again.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_gap_ends_the_job_with_a_cancel_and_an_error() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    for binary in [false, true] {
        let asking = coordinator.asking(CHAT, r#"{"model":"m"}"#);
        let job_id = agent.job().await.job_id;
        agent.chunk(job_id, RESPONSE).await;
        let behind = RESPONSE.len() as u64 + 1;
        match binary {
            true => agent.binary_chunk(job_id, behind, "x").await,
            false => agent.chunk_at(job_id, behind, "x").await,
        }
        assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
        agent.done(job_id).await;
        assert_eq!(soon(asking).await.unwrap().status, 502);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_session_goes_on_only_with_its_key() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    let (asking, job) = begun(&coordinator, &mut agent, "data: 1\n\n").await;
    let session = agent.session.clone().unwrap();
    drop(agent);
    waiting(&coordinator, 1.0).await;
    let (mut thief, ok) = resume(&coordinator, 2, &session, &[(job, 20)]).await;
    assert_eq!((ok.resumed, ok.jobs), (false, None));
    assert_ne!(thief.session.as_ref(), Some(&session));
    thief.chunk_at(job, 9, "data: forged\n\n").await;
    thief.done(job).await;
    thief.settle().await;
    let (mut agent, ok) = resume(&coordinator, 1, &session, &[(job, 20)]).await;
    assert!(ok.resumed);
    agent.chunk(job, &RESPONSE[9..]).await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_names_another_session_or_none_opens_a_new_one_and_the_old_jobs_are_lost() {
    let coordinator = Coordinator::start().await;
    for named in [true, false] {
        let mut agent = join(&coordinator, 1).await;
        let (asking, job) = begun(&coordinator, &mut agent, "data: 1\n\n").await;
        drop(agent);
        waiting(&coordinator, 1.0).await;
        let new = if named {
            let (new, ok) = resume(&coordinator, 1, &SessionName::from_bits(7), &[(job, 20)]).await;
            assert_eq!((ok.resumed, ok.jobs), (false, None));
            new
        } else {
            ScriptedAgent::agree(coordinator.agent_url(), 1, &ALL).await
        };
        assert!(soon(asking).await.unwrap().body.contains("the connection to the agent was lost"));
        drop(new);
    }
    assert_eq!(metric(&coordinator, "sessions_total{change=\"replaced\"}").await, Some(2.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_without_a_byte_of_a_response_is_sent_again_to_an_agent_that_restarted() {
    // Also if it is back before the coordinator has noticed that the connection is gone.
    for is_noticed in [true, false] {
        let coordinator = Coordinator::start().await;
        let mut older = Some(join(&coordinator, 1).await);
        let asking = coordinator.asking(CHAT, STREAM);
        let job = older.as_mut().unwrap().job().await.job_id;
        if is_noticed {
            older.take();
            waiting(&coordinator, 1.0).await;
        }
        let mut agent = ScriptedAgent::agree(coordinator.agent_url(), 1, &ALL).await;
        agent.send_offer(&["m"], 4, None).await;
        let again = agent.job().await.job_id;
        assert_ne!(again, job);
        agent.begin(again, 200, "text/event-stream", RESPONSE).await;
        agent.done(again).await;
        assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_whose_session_goes_on_elsewhere_is_closed_and_its_frames_count_for_nothing() {
    let coordinator = Coordinator::start().await;
    let mut old = join(&coordinator, 1).await;
    let (asking, job) = begun(&coordinator, &mut old, "data: 1\n\n").await;
    let (mut new, ok) = resume(&coordinator, 1, &old.session.clone().unwrap(), &[(job, 20)]).await;
    assert_eq!((ok.resumed, ok.jobs), (true, wanted(&[(job, 9)])));
    old.chunk(job, "data: old\n\n").await;
    old.done(job).await;
    assert_eq!(old.event().await, AgentEvent::Close(Some((1000, "replaced".into()))));
    new.offer(&["m"], 4).await;
    new.chunk(job, &RESPONSE[9..]).await;
    new.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
    let (_asking, job) = begun(&coordinator, &mut new, "data: 1\n\n").await;
    drop(old);
    new.settle().await;
    let health = Answer::of(coordinator.get("/healthz"), "").await;
    assert_eq!(health.body, r#"{"status":"ok","agents":1,"in_flight":1,"waiting":0}"#);
    new.done(job).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_whose_client_leaves_while_it_waits_is_not_wanted() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    let (stream, gone) = streaming(&coordinator, &mut agent, "data: 1\n\n").await;
    let (asking, job) = begun(&coordinator, &mut agent, "data: 1\n\n").await;
    let session = agent.session.clone().unwrap();
    drop(agent);
    waiting(&coordinator, 2.0).await;
    drop(stream);
    waiting(&coordinator, 1.0).await;
    let (mut agent, ok) = resume(&coordinator, 1, &session, &[(gone, 20), (job, 20)]).await;
    assert_eq!(ok.jobs, wanted(&[(job, 9)]));
    agent.chunk(job, &RESPONSE[9..]).await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_that_leaves_after_the_return_cancels_its_job_on_the_new_connection() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    let (stream, job_id) = streaming(&coordinator, &mut agent, "data: 1\n\n").await;
    let (mut agent, _) = resume(&coordinator, 1, &agent.session.clone().unwrap(), &[(job_id, 9)]).await;
    drop(stream);
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id });
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn jobs_whose_agent_does_not_return_in_time_are_lost() {
    let coordinator = Coordinator::start_with(|config| config.resume_window = Duration::from_millis(50)).await;
    let mut agent = join(&coordinator, 1).await;
    let (begun, job) = begun(&coordinator, &mut agent, "data: 1\n\n").await;
    let asking = coordinator.asking(CHAT, STREAM);
    agent.job().await;
    let session = agent.session.clone().unwrap();
    drop(agent);
    let begun = soon(begun).await.unwrap();
    assert!(begun.body.contains("the connection to the agent was lost"), "{}", begun.body);
    assert_eq!(soon(asking).await.unwrap().status, 502);
    let (_agent, ok) = resume(&coordinator, 1, &session, &[(job, 9)]).await;
    assert!(!ok.resumed);
    assert_eq!(metric(&coordinator, "sessions_total{change=\"window_passed\"}").await, Some(1.0));
    assert_eq!(metric(&coordinator, "jobs_total{outcome=\"failed\",cause=\"agent_lost\"}").await, Some(2.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_without_a_byte_of_a_response_goes_to_another_agent_at_once() {
    let coordinator = Coordinator::start().await;
    let mut first = join(&coordinator, 1).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = first.job().await.job_id;
    let mut second = join(&coordinator, 2).await;
    let session = first.session.clone().unwrap();
    drop(first);
    let other = second.job().await.job_id;
    assert_ne!(other, job);
    waiting(&coordinator, 0.0).await;
    let (_first, ok) = resume(&coordinator, 1, &session, &[(job, 9)]).await;
    assert_eq!((ok.resumed, ok.jobs), (true, Some(vec![])));
    second.chunk(other, RESPONSE).await;
    second.done(other).await;
    assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_no_other_agent_can_take_waits_for_its_agent() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    for again in [true, false] {
        let asking = coordinator.asking(CHAT, STREAM);
        let job = agent.job().await.job_id;
        let session = agent.session.clone().unwrap();
        drop(agent);
        waiting(&coordinator, 1.0).await;
        let (returned, ok) = resume(&coordinator, 1, &session, &[(job, 9)]).await;
        assert_eq!(ok.jobs, wanted(&[(job, 0)]));
        agent = returned;
        if again {
            drop(agent);
            waiting(&coordinator, 1.0).await;
            agent = resume(&coordinator, 1, &session, &[(job, 9)]).await.0;
        }
        agent.offer(&["m"], 4).await;
        agent.begin(job, 200, "text/event-stream", RESPONSE).await;
        agent.done(job).await;
        assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_for_a_model_of_an_agent_that_is_away_waits_and_gets_the_slot_of_a_job_that_ends_after_its_return() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), 1, &ALL).await;
    agent.offer(&["m"], 1).await;
    let (first, job) = begun(&coordinator, &mut agent, "data: 1\n\n").await;
    let session = agent.session.clone().unwrap();
    drop(agent);
    waiting(&coordinator, 1.0).await;
    let second = coordinator.asking(CHAT, STREAM);
    coordinator.until_waiting(1).await;
    let (mut agent, _) = resume(&coordinator, 1, &session, &[(job, 9)]).await;
    agent.offer(&["m"], 1).await;
    agent.binary_chunk(job, 9, &RESPONSE[9..]).await;
    agent.done(job).await;
    assert_eq!(soon(first).await.unwrap().body, RESPONSE);
    let next = agent.job().await.job_id;
    assert_ne!(next, job);
    agent.begin(next, 200, "text/event-stream", RESPONSE).await;
    agent.done(next).await;
    assert_eq!(soon(second).await.unwrap().body, RESPONSE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_the_agent_never_received_is_sent_again_when_it_has_sent_its_offer() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, 1).await;
    let (begun, job) = begun(&coordinator, &mut agent, "data: 1\n\n").await;
    let asking = coordinator.asking(CHAT, STREAM);
    agent.job().await;
    let (mut agent, ok) = resume(&coordinator, 1, &agent.session.clone().unwrap(), &[(job, 9)]).await;
    assert_eq!(ok.jobs, wanted(&[(job, 9)]));
    agent.send_offer(&["m"], 4, None).await;
    let again = agent.job().await.job_id;
    for (job, rest) in [(again, RESPONSE), (job, &RESPONSE[9..])] {
        agent.chunk(job, rest).await;
        agent.done(job).await;
    }
    assert_eq!(soon(asking).await.unwrap().body, RESPONSE);
    assert_eq!(soon(begun).await.unwrap().body, RESPONSE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_stream_that_waits_gets_comments_at_the_start_of_lines() {
    let coordinator = Coordinator::start_with(|config| config.waiting_comments = Duration::from_millis(20)).await;
    let mut agent = join(&coordinator, 1).await;
    for (first, comment) in [("data: 1\n\n", ": waiting\n\n"), ("event: x\n", ":\n")] {
        let (mut stream, job) = streaming(&coordinator, &mut agent, first).await;
        let session = agent.session.clone().unwrap();
        drop(agent);
        let seen = read_up_to(&mut stream, &comment.repeat(2)).await;
        assert!(seen.starts_with(first), "{seen:?}");
        let (mut returned, _) = resume(&coordinator, 1, &session, &[(job, first.len())]).await;
        returned.chunk(job, "data: last\n\n").await;
        returned.done(job).await;
        let rest = read_up_to(&mut stream, "data: last\n\n").await;
        assert_eq!(rest.replace(comment, ""), "data: last\n\n");
        assert!(soon(stream.next()).await.is_none());
        returned.offer(&["m"], 4).await;
        agent = returned;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_without_the_extension_has_no_session() {
    let coordinator = Coordinator::start().await;
    let url = coordinator.agent_url();
    let (agent, ok) = ScriptedAgent::resume(url, 1, &[Extension::Binary], SessionName::from_bits(7), &[]).await;
    assert_eq!((agent.session.as_ref(), ok.resume_window, ok.resumed, ok.jobs), (None, None, false, None));
}
