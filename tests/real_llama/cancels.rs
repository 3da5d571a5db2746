//! If the client, the agent or the coordinator of a job goes away, the server's slot is free at once. A coordinator may come
//! back for its jobs within the window that it gave.

use std::time::Duration;

use crate::answer::{CHAT, MESSAGES, endless_chat};
use crate::fleet::{Fleet, RESUME_WINDOW};
use crate::llama::Llama;

/// How long a slot may stay at work for nobody.
const AT_ONCE: Duration = Duration::from_secs(1);

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_client_that_leaves_frees_the_slot() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    for (number, path) in [CHAT, MESSAGES].into_iter().enumerate() {
        let mut stream = fleet.api.stream(path, &endless_chat()).await;
        stream.until_tokens_flow().await;
        llama.until_busy(1).await;
        drop(stream);
        freed(&llama, &format!("the client of {path} left")).await;
        let cancelled = number as u64 + 1;
        let status = fleet.until_status("a cancelled job", |status| status.jobs.cancelled == cancelled).await;
        assert_eq!((status.in_flight, status.jobs.done), (0, 0));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_client_that_waits_for_the_whole_answer_and_leaves_frees_the_slot_too() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let mut request = endless_chat();
    request["stream"] = false.into();
    request["cache_prompt"] = true.into();
    // The server does not stop reading a prompt. It has read this one already.
    let mut short = request.clone();
    short["max_tokens"] = 1.into();
    llama.api.post(CHAT, &short).await;
    let asked = fleet.api.post(CHAT, &request);
    tokio::select! {
        _ = asked => panic!("it takes longer than that"),
        () = llama.until_busy(1) => {}
    }
    freed(&llama, "the client of a whole answer left").await;
    fleet.until_status("a cancelled job", |status| status.jobs.cancelled == 1).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_coordinator_that_dies_frees_the_slot() {
    let llama = Llama::given().await;
    let mut fleet = Fleet::beside(&llama).await;
    let mut stream = fleet.api.stream(CHAT, &endless_chat()).await;
    stream.until_tokens_flow().await;
    llama.until_busy(1).await;
    fleet.coordinator.kill();
    freed_within(AT_ONCE + RESUME_WINDOW, &llama, "the coordinator was killed").await;
    let status = fleet.until_status("a lost job", |status| status.jobs.cancelled == 1).await;
    assert_eq!((status.in_flight, status.connected_since), (0, None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn an_agent_that_dies_frees_the_slot_and_its_client_is_told() {
    let llama = Llama::given().await;
    let mut fleet = Fleet::beside(&llama).await;
    let mut stream = fleet.api.stream(CHAT, &endless_chat()).await;
    stream.until_tokens_flow().await;
    llama.until_busy(1).await;
    fleet.agent.kill();
    freed(&llama, "the agent was killed").await;
    let events = stream.rest().await;
    let last = events.last().and_then(|event| event.json()).unwrap();
    assert_eq!(last["error"]["code"], "upstream_error");
    fleet.until_offered(0).await;
}

async fn freed(llama: &Llama, what: &str) {
    freed_within(AT_ONCE, llama, what).await;
}

async fn freed_within(limit: Duration, llama: &Llama, what: &str) {
    let took = llama.until_idle().await;
    println!("{what}: seen idle after {} ms", took.as_millis());
    assert!(took < limit, "{took:?}");
}
