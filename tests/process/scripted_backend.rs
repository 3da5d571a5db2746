//! A scripted backend plays the same script in memory, to an agent of the harness, and over TCP, to the binary.

use std::time::Duration;

use bytes::Bytes;
use outpost::messages::endpoint::Endpoint;
use outpost::testkit::{Clock, Harness, JobEnd, JobTrace, Reply, ScriptedBackend, StreamFault, answer};

use crate::support::{HELLO, Home, agent, backend, coordinator, entry};

fn replies() -> Vec<Reply> {
    let events = answer(Endpoint::ChatCompletions, "hello", 3, 5);
    let complete = || Box::new(Reply::Stream(events.clone()));
    vec![
        Reply::saying(Endpoint::ChatCompletions, "hello"),
        Reply::pieces(&["data: [DONE]\n\n"]),
        Reply::whole(Endpoint::ChatCompletions, "hello"),
        Reply::StreamThen(events[..1].to_vec(), StreamFault::Truncate),
        Reply::StreamThen(events[..2].to_vec(), StreamFault::Break),
        Reply::Status(400, Bytes::from_static(b"{}")),
        Reply::Status(401, Bytes::from_static(b"{}")),
        Reply::Status(500, Bytes::from_static(b"{}")),
        Reply::Content("text/html", Bytes::from_static(b"<html></html>")),
        Reply::Break,
        Reply::Garble,
        Reply::Turns(3, complete()),
        Reply::After(Duration::from_millis(10), complete()),
    ]
}

/// The part of a trace that does not depend on time.
fn outcome(trace: JobTrace) -> (Vec<u8>, String) {
    let end = match trace.end {
        JobEnd::Done(done) => format!("{:?}", done.tokens),
        JobEnd::Error(error) => format!("{:?} {} {}", error.error_code, error.message, error.tokens_emitted),
    };
    (trace.bytes, end)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_reply_has_the_same_outcome_in_memory_and_over_tcp() {
    let in_memory = ScriptedBackend::new("openai", &["m"]);
    let mut harness = Harness::builder().clock(Clock::Unchanged).backend(&in_memory).start();
    let mut to_harness = harness.connect().await;

    let (mut coordinator, home) = (coordinator().await, Home::new());
    let over_tcp = backend("m").await;
    let _process = agent(&coordinator, &home, &entry(&over_tcp)).start();
    let mut to_process = coordinator.serving("m").await;

    for reply in replies() {
        in_memory.reply([reply.clone()]);
        over_tcp.reply([reply.clone()]);
        let jobs = (to_harness.job("m", HELLO), to_process.job("m", HELLO));
        let traces = (to_harness.outcome_of(jobs.0).await, to_process.outcome_of(jobs.1).await);
        assert_eq!(outcome(traces.0), outcome(traces.1), "{reply:?}");
    }
    harness.stop().await;
}
