//! One model on two servers, of which one is killed while both have work.

use std::collections::BTreeSet;
use std::ops::Range;

use futures_util::future::{join, join_all};
use serde_json::Value;
use tokio::time::Instant;

use crate::answer::{Answer, CHAT, greedy_chat, streamed_with_usage};
use crate::client::{Api, Event, Events};
use crate::fleet::Fleet;
use crate::llama::Llama;
use crate::waiting::eventually;

/// Slots of one server.
const SLOTS: usize = 2;
/// Jobs that one server is given at most: more than it has slots, so that it queues them, and enough for the other's.
const QUEUE: u32 = 50;
/// Jobs that wait at the servers as one is killed.
const WAITING: usize = 20;
/// All jobs then: every slot of both servers works one more.
const JOBS: usize = 2 * SLOTS + WAITING;
/// Tokens of an answer that does not end before its server is killed or its client leaves.
const ENDLESS: u32 = 2000;
/// Tokens of the others.
const SHORT: u32 = 4;

/// What a client saw of its job, to the end.
enum Seen {
    /// A whole answer, with the tokens of its prompt and its own.
    Whole { id: String, input: u64, output: u64 },
    /// The start of an answer, and one error.
    Broken { id: String },
}

/// Which server takes which of the waiting jobs is up to the agent: the test holds for every division of them. No job can
/// end before the kill, because answers that do not end occupy all slots.
#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_server_that_dies_costs_the_answers_it_was_giving_and_no_job_that_waited_for_it() {
    let mut doomed = Llama::start(&[]);
    let mut twin = doomed.another(&[]);
    twin.kill();
    let queue = QUEUE.to_string();
    let more = [
        ("OUTPOST_MAX_CONCURRENT", "100"),
        ("OUTPOST_BACKEND_DOOMED_MAX_CONCURRENT", &queue),
        ("OUTPOST_BACKEND_TWIN_MAX_CONCURRENT", &queue),
    ];
    let backends = format!("doomed@llamacpp={},twin@llamacpp={}", doomed.url, twin.url);
    let fleet = Fleet::start(&backends, &more).await;

    // While the twin is down, the first answers come from the other server. Once it is up, it has the fewest jobs.
    fleet.until_slots(QUEUE).await;
    let doomed_answers = begin_all(&fleet.api, 0..SLOTS).await;
    twin.start_again(&[]).await;
    fleet.until_slots(2 * QUEUE).await;
    let twin_answers = begin_all(&fleet.api, SLOTS..2 * SLOTS).await;
    assert_eq!((doomed.busy().await, twin.busy().await), (SLOTS, SLOTS));
    let prompts_before = twin.figure("prompt_tokens_total").await;

    let start = async |api: Api, number| to_the_end(api.stream(CHAT, &job(number, SHORT)).await, SHORT).await;
    let queued: Vec<_> = (2 * SLOTS..JOBS).map(|number| actix_rt::spawn(start(fleet.api.clone(), number))).collect();
    let all_wait = async || {
        let (here, there) = join(doomed.figure("requests_deferred"), twin.figure("requests_deferred")).await;
        (here + there == WAITING as u64).then_some(here)
    };
    let (orphaned, _) = eventually("all jobs at the servers", all_wait).await;
    assert!(orphaned > 0, "jobs wait at both servers");
    let before = fleet.status().await;
    assert_eq!((before.in_flight, before.jobs.done, before.jobs.admitted), (JOBS as u64, 0, JOBS as u64));

    let broken: Vec<_> =
        doomed_answers.into_iter().map(|stream| actix_rt::spawn(to_the_end(stream, ENDLESS))).collect();
    doomed.kill();
    let killed = Instant::now();
    fleet.until_slots(QUEUE).await;
    let withdrawn = killed.elapsed().as_millis();
    drop(twin_answers);

    let broken: Vec<_> = join_all(broken).await.into_iter().map(Result::unwrap).collect();
    assert!(broken.iter().all(|seen| matches!(seen, Seen::Broken { .. })), "the dead server's answers break off");
    let whole: Vec<_> = join_all(queued).await.into_iter().map(Result::unwrap).collect();
    let worked = killed.elapsed().as_millis();
    let ids: BTreeSet<_> = broken.iter().chain(&whole).map(Seen::id).collect();
    assert_eq!(ids.len(), SLOTS + WAITING, "no answer went to two clients");
    let output: u64 = whole.iter().map(|seen| seen.tokens().1).sum();
    assert_eq!(output, WAITING as u64 * u64::from(SHORT), "every job that waited has its whole answer");

    let status = fleet.until_status("the jobs' ends", |status| status.in_flight == 0).await;
    let jobs = &status.jobs;
    assert_eq!((jobs.admitted, jobs.done, jobs.cancelled), (JOBS as u64, WAITING as u64, SLOTS as u64));
    assert_eq!(jobs.failed, [("internal".to_owned(), SLOTS as u64)].into());
    assert_eq!((jobs.moved, &jobs.refused), (orphaned, &[].into()));
    assert_eq!(status.tokens.output, output);
    let prompts: u64 = whole.iter().map(|seen| seen.tokens().0).sum();
    assert_eq!(twin.figure("prompt_tokens_total").await - prompts_before, prompts, "nothing was worked twice");
    eventually("no job at the coordinator", async || (fleet.agent().await["in_flight"] == 0).then_some(())).await;

    doomed.start_again(&[]).await;
    let back = fleet.until_slots(2 * QUEUE).await.as_millis();
    // One answer that does not end occupies one of the servers, so that the next job goes to the other.
    let held = begin(&fleet.api, 0, ENDLESS).await;
    let works_again = async || {
        begin(&fleet.api, 1, SHORT).await.rest().await;
        (doomed.busy().await > 0 || doomed.figure("tokens_predicted_total").await > 0).then_some(())
    };
    eventually("jobs at the server that is back", works_again).await;
    drop(held);
    println!(
        "killed: slots gone after {withdrawn} ms, all jobs ended after {worked} ms; back {back} ms after it answers"
    );
}

#[actix_rt::test(system = "outpost::testkit::System")]
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
    assert_eq!((read.unwrap().tokens().1, other.tokens().1), (SHORT.into(), (SHORT * 16).into()));
    let jobs = fleet.until_status("the jobs' ends", |status| status.in_flight == 0).await.jobs;
    assert_eq!((jobs.admitted, jobs.done, jobs.moved), (2, 2, 1));
}

/// A job with a prompt of its own and an answer of so many tokens.
fn job(number: usize, tokens: u32) -> Value {
    let mut request = streamed_with_usage(greedy_chat(&format!("Count from {number}."), tokens));
    request["ignore_eos"] = true.into();
    request
}

/// Endless answers, each begun before the next is asked for.
async fn begin_all(api: &Api, numbers: Range<usize>) -> Vec<Events> {
    let mut begun = Vec::new();
    for number in numbers {
        begun.push(begin(api, number, ENDLESS).await);
    }
    begun
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
            let (input, output) = answer.tokens.expect("usage");
            assert_eq!((answer.ending.as_str(), output), ("length", limit.into()));
            Seen::Whole { id, input, output }
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

    /// The tokens of the prompt and of the answer.
    fn tokens(&self) -> (u64, u64) {
        match self {
            Self::Whole { input, output, .. } => (*input, *output),
            Self::Broken { .. } => (0, 0),
        }
    }
}
