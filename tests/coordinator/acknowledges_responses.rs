//! What the coordinator acknowledges to an agent: the bytes that a client took over, and terminal frames.

use futures_util::StreamExt;
use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, Extension, Taken};
use outpost::testkit::ScriptedAgent;

use super::fixture::{Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

async fn join(coordinator: &Coordinator, extensions: &[Extension]) -> ScriptedAgent {
    let mut agent = ScriptedAgent::agree(coordinator.agent_url(), 1, extensions).await;
    agent.offer(&["m"], 4).await;
    agent
}

/// Reads acknowledgements of a job up to this offset. They must rise.
async fn acknowledged(agent: &mut ScriptedAgent, job: JobId, end: u64) {
    let mut last = 0;
    while last < end {
        let (acked, Taken::Bytes(offset)) = agent.ack().await else { panic!("the terminal frame was not sent") };
        assert!(acked == job && last < offset && offset <= end, "{offset} after {last}");
        last = offset;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_few_bytes_are_acknowledged_soon_and_the_end_at_once() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, &[Extension::Resume]).await;
    for body in [STREAM, r#"{"model":"m"}"#] {
        let asking = coordinator.asking(CHAT, body);
        let job = agent.job().await.job_id;
        agent.chunk(job, DONE).await;
        acknowledged(&mut agent, job, DONE.len() as u64).await;
        agent.done(job).await;
        assert_eq!(agent.ack().await, (job, Taken::Terminal));
        soon(asking).await.unwrap();
    }
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.fail(job, ErrorCode::Internal).await;
    assert_eq!(agent.ack().await, (job, Taken::Terminal));
    soon(asking).await.unwrap();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_end_of_a_job_that_no_one_wants_is_acknowledged_too() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, &[Extension::Resume]).await;
    let job = JobId::random();
    agent.done(job).await;
    assert_eq!(agent.ack().await, (job, Taken::Terminal));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_client_that_does_not_read_stops_the_acknowledgements_until_it_reads() {
    let coordinator = Coordinator::start_with(|config| config.max_buffered = 64 << 20).await;
    let mut agent = join(&coordinator, &[Extension::Resume]).await;
    let asking = coordinator.post(CHAT).send_body(STREAM);
    let begin = async {
        let job = agent.job().await.job_id;
        agent.chunk(job, "data: 1\n\n").await;
        job
    };
    let (response, job) = futures_util::join!(soon(asking), begin);
    let mut response = response.unwrap();
    // The sockets between take some megabytes.
    let piece = "x".repeat(256 << 10);
    for _ in 0..80 {
        agent.chunk(job, &piece).await;
    }
    agent.settle().await;
    let total = (80 * piece.len() + 9) as u64;
    let acks = agent.received_acks();
    assert!(
        acks.iter().all(|(acked, taken)| *acked == job && matches!(taken, Taken::Bytes(offset) if *offset < total))
    );
    let read = async {
        let mut read = 0;
        while read < total {
            read += soon(response.next()).await.unwrap().unwrap().len() as u64;
        }
    };
    futures_util::join!(read, acknowledged(&mut agent, job, total));
    agent.done(job).await;
    assert_eq!(agent.ack().await, (job, Taken::Terminal));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn acknowledgements_that_may_not_have_arrived_are_sent_again_on_a_new_connection() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, &[Extension::Resume]).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    agent.chunk(job, DONE).await;
    acknowledged(&mut agent, job, DONE.len() as u64).await;
    let kept = outpost::messages::wire::KeptJob { job_id: job, offset: DONE.len() as u64, ended: true };
    let session = agent.session.clone().unwrap();
    let url = coordinator.agent_url();
    let (mut agent, _) = ScriptedAgent::resume(url, 1, &[Extension::Resume], session, &[kept]).await;
    acknowledged(&mut agent, job, DONE.len() as u64).await;
    agent.done(job).await;
    assert_eq!(agent.ack().await, (job, Taken::Terminal));
    assert_eq!(soon(asking).await.unwrap().body, DONE);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_without_the_extension_gets_no_acknowledgements() {
    let coordinator = Coordinator::start().await;
    let mut agent = join(&coordinator, &[Extension::Binary, Extension::Endpoints]).await;
    let asking = coordinator.asking(CHAT, STREAM);
    let job = agent.job().await.job_id;
    let large = format!("data: {}\n\n", "x".repeat(100_000));
    agent.chunk(job, &large).await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().body, large);
    agent.settle().await;
    assert_eq!(agent.received_acks(), []);
}
