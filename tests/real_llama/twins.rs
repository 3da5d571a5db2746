//! One model on two servers, of which one is killed while both have work.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::Value;
use tokio::time::Instant;

use crate::answer::{Answer, CHAT, greedy_chat, streamed_with_usage};
use crate::client::{Api, Event, Events};
use crate::failures::LOOK;
use crate::fleet::{DISCOVERY_INTERVAL, Fleet};
use crate::llama::Llama;
use crate::waiting::eventually;

/// Slots of one server.
const SLOTS: usize = 2;
/// Jobs that one server is given at most: more than it has slots, so that it queues them, and enough for the other's.
const QUEUE: u32 = 50;
/// Jobs that run as a server is killed.
const JOBS: usize = 50;
/// Tokens of the answers that are being given then: enough to last until all jobs are there.
const LONG: u32 = 240;
/// Tokens of the others.
const SHORT: u32 = 4;
/// How soon the coordinator has to know that half of the slots are gone.
const SOON: Duration = Duration::from_secs(3);

/// What a client saw of its job, to the end.
enum Seen {
    /// A whole answer of so many tokens.
    Whole { id: String, tokens: u64 },
    /// The start of an answer, and one error.
    Broken { id: String },
}

#[actix_rt::test]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_server_that_dies_costs_the_answers_it_was_giving_and_no_job_that_waited_for_it() {
    let mut doomed = Llama::start(&[]);
    let twin = doomed.another(&[]);
    let queue = QUEUE.to_string();
    let more = [
        ("OUTPOST_MAX_CONCURRENT", "100"),
        ("OUTPOST_BACKEND_DOOMED_MAX_CONCURRENT", &queue),
        ("OUTPOST_BACKEND_TWIN_MAX_CONCURRENT", &queue),
    ];
    let backends = format!("doomed@llamacpp={},twin@llamacpp={}", doomed.url, twin.url);
    let fleet = Fleet::start(&backends, &more).await;
    fleet.until_slots(2 * QUEUE).await;

    let answering = join_all((0..2 * SLOTS).map(|number| begin(&fleet.api, number, LONG))).await;
    let answering: Vec<_> = answering.into_iter().map(|stream| actix_rt::spawn(to_the_end(stream, LONG))).collect();
    let start = async |api: Api, number| to_the_end(api.stream(CHAT, &job(number, SHORT)).await, SHORT).await;
    let queued: Vec<_> = (2 * SLOTS..JOBS).map(|number| actix_rt::spawn(start(fleet.api.clone(), number))).collect();
    let per_server = (JOBS / 2 - SLOTS) as u64;
    eventually("all jobs at the servers", async || {
        let (here, there) = join(doomed.figure("requests_deferred"), twin.figure("requests_deferred")).await;
        ((here, there) == (per_server, per_server)).then_some(())
    })
    .await;
    let before = fleet.status().await;
    assert_eq!((before.in_flight, before.jobs.done, before.jobs.admitted), (JOBS as u64, 0, JOBS as u64));

    doomed.kill();
    let killed = Instant::now();
    fleet.until_slots(QUEUE).await;
    let told = killed.elapsed();
    assert!(told < SOON, "{told:?}");

    let ends = join(join_all(answering), join_all(queued)).await;
    let (answering, queued) = (ends.0.into_iter().map(Result::unwrap), ends.1.into_iter().map(Result::unwrap));
    let (whole, broken): (Vec<_>, Vec<_>) = answering.partition(|seen| matches!(seen, Seen::Whole { .. }));
    assert_eq!((whole.len(), broken.len()), (SLOTS, SLOTS), "one server's answers break off");
    let all: Vec<_> = whole.into_iter().chain(broken).chain(queued).collect();
    let ids: BTreeSet<_> = all.iter().map(Seen::id).collect();
    assert_eq!(ids.len(), JOBS, "no answer went to two clients");
    let tokens: u64 = all.iter().map(Seen::tokens).sum();
    assert_eq!(tokens, (SLOTS as u32 * LONG) as u64 + ((JOBS - 2 * SLOTS) as u32 * SHORT) as u64);

    let status = fleet.until_status("the jobs' ends", |status| status.in_flight == 0).await;
    let jobs = &status.jobs;
    assert_eq!((jobs.admitted, jobs.done, jobs.cancelled), (JOBS as u64, (JOBS - SLOTS) as u64, 0));
    assert_eq!(jobs.failed, [("internal".to_owned(), SLOTS as u64)].into());
    assert_eq!((jobs.moved, &jobs.refused), (per_server, &[].into()));
    assert_eq!(status.tokens.output, tokens);
    assert_eq!(twin.figure("tokens_predicted_total").await, tokens, "nothing was worked twice");
    let log = fleet.coordinator.log();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("job done "), lines("job failed ")), (JOBS - SLOTS, SLOTS));
    assert_eq!((lines("job lost "), lines("job cancelled ")), (0, 0));
    assert_eq!(fleet.agent().await["in_flight"], 0);
    let worked = killed.elapsed().as_millis();

    doomed.start_again(&[]).await;
    let back = fleet.until_slots(2 * QUEUE).await;
    assert!(back < DISCOVERY_INTERVAL + LOOK, "{back:?}");
    join_all((0..2 * SLOTS).map(async |number| begin(&fleet.api, number, SHORT).await.rest().await)).await;
    assert!(doomed.figure("tokens_predicted_total").await >= u64::from(SHORT));
    let (told, back) = (told.as_millis(), back.as_millis());
    println!("killed: slots gone after {told} ms, all jobs ended after {worked} ms; back {back} ms after it answers");
}

#[actix_rt::test]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_job_whose_prompt_was_being_read_is_done_by_the_other_server_though_it_is_full() {
    let mut doomed = Llama::start(&["--parallel", "1"]);
    let twin = doomed.another(&["--parallel", "1"]);
    let fleet = Fleet::start(&format!("doomed@llamacpp={},twin@llamacpp={}", doomed.url, twin.url), &[]).await;
    fleet.until_slots(2).await;

    let mut long = job(0, SHORT);
    long["messages"][0]["content"] = "One, two, three, four. ".repeat(50).into();
    let api = fleet.api.clone();
    let read = actix_rt::spawn(async move { to_the_end(api.stream(CHAT, &long).await, SHORT).await });
    doomed.until_busy(1).await;
    let other = begin(&fleet.api, 1, SHORT * 16).await;
    assert_eq!((fleet.status().await.in_flight, twin.busy().await), (2, 1));
    doomed.kill();
    let (read, other) = join(read, to_the_end(other, SHORT * 16)).await;
    assert_eq!((read.unwrap().tokens(), other.tokens()), (SHORT.into(), (SHORT * 16).into()));
    let jobs = fleet.until_status("the jobs' ends", |status| status.in_flight == 0).await.jobs;
    assert_eq!((jobs.admitted, jobs.done, jobs.moved), (2, 2, 1));
}

/// A job with a prompt of its own and an answer of so many tokens.
fn job(number: usize, tokens: u32) -> Value {
    let mut request = streamed_with_usage(greedy_chat(&format!("Count from {number}."), tokens));
    request["ignore_eos"] = true.into();
    request["cache_prompt"] = true.into();
    request
}

/// A job whose answer has begun. What was read of it is nothing of interest.
async fn begin(api: &Api, number: usize, tokens: u32) -> Events {
    let mut stream = api.stream(CHAT, &job(number, tokens)).await;
    stream.until_tokens_flow().await;
    stream
}

/// Reads on until nothing comes any more, which happens once.
async fn to_the_end(stream: Events, limit: u32) -> Seen {
    let events = stream.rest().await;
    let mut ids: BTreeSet<String> = BTreeSet::new();
    let mut errors = Vec::new();
    for chunk in events.iter().filter_map(Event::json) {
        ids.extend(chunk["id"].as_str().map(str::to_owned));
        errors.extend(chunk["error"].as_object().cloned());
    }
    let id = ids.pop_first().expect("an answer that has begun");
    assert!(ids.is_empty(), "one answer");
    let said = events.iter().filter(|event| event.has_text()).count();
    assert!(said <= limit as usize, "nothing is said twice");
    match errors.as_slice() {
        [] => {
            let answer = Answer::of_chat_events(&events);
            let tokens = answer.tokens.map(|(_, output)| output);
            assert_eq!((answer.ending.as_str(), tokens), ("length", Some(limit.into())));
            Seen::Whole { id, tokens: limit.into() }
        }
        [error] => {
            assert_eq!((&error["type"], &error["code"]), (&"server_error".into(), &"upstream_error".into()));
            assert!(error["message"].as_str().is_some_and(|message| message.contains("internal")));
            assert!(events.last().and_then(Event::json).is_some_and(|last| last["error"].is_object()), "the last word");
            Seen::Broken { id }
        }
        _ => panic!("more than one error: {errors:?}"),
    }
}

impl Seen {
    fn id(&self) -> &str {
        match self {
            Self::Whole { id, .. } | Self::Broken { id } => id,
        }
    }

    fn tokens(&self) -> u64 {
        match self {
            Self::Whole { tokens, .. } => *tokens,
            Self::Broken { .. } => 0,
        }
    }
}
