//! What it costs to relay an event, counted and not timed: allocations, frames, writes.
//!
//! The bounds are those of today with a little room. Whoever needs more for a good reason raises them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is amiss")]

mod rig;
mod waiting;

use allocation_counter::measure;
use bytes::Bytes;
use outpost::messages::wire::FromAgent;
use outpost::testkit::Reply;

use rig::Rig;

/// An event of 120 bytes.
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}}]}\n\n";
const LAST: &str = "data: [DONE]\n\n";
/// Events of a job; another one has twice as many, and the difference is what so many events cost.
const EVENTS: usize = 1_000;

/// What the agent sent for a job.
struct Sent {
    frames: usize,
    writes: usize,
}

/// What a job costs, with the start of its agent; and, divided, what an event does.
struct Cost {
    allocations: f64,
    /// In bytes, of the agent and of the little that is around it here.
    allocated: f64,
    frames: f64,
    writes: f64,
}

fn cost<F: Future<Output = Sent>>(work: impl FnOnce(usize) -> F, events: usize) -> Cost {
    let mut sent = None;
    let info = measure(|| sent = Some(actix_rt::System::new().block_on(work(events))));
    let Sent { frames, writes } = sent.unwrap();
    let (allocations, allocated) = (info.count_total as f64, info.bytes_total as f64);
    Cost { allocations, allocated, frames: frames as f64, writes: writes as f64 }
}

fn per_event<F: Future<Output = Sent>>(what: &str, work: impl Fn(usize) -> F) -> Cost {
    // The first agent of a thread also pays for what is made once.
    cost(&work, 1);
    let (one, two) = (cost(&work, EVENTS), cost(&work, 2 * EVENTS));
    let rate = |figure: fn(&Cost) -> f64| (figure(&two) - figure(&one)) / EVENTS as f64;
    let cost = Cost {
        allocations: rate(|cost| cost.allocations),
        allocated: rate(|cost| cost.allocated),
        frames: rate(|cost| cost.frames),
        writes: rate(|cost| cost.writes),
    };
    let Cost { allocations, allocated, frames, writes } = cost;
    println!(
        "an event, {what}: {allocations:.3} allocations, {allocated:.0} bytes allocated, {frames:.3} frames, {writes:.3} writes"
    );
    cost
}

/// Each event comes when the one before it has reached the coordinator.
async fn one_by_one(events: usize) -> Sent {
    let mut rig = Rig::start().await;
    rig.backend.reply([Reply::ByHand]);
    rig.job().await;
    let request = rig.backend.request().await;
    request.head();
    let before = rig.writes();
    let mut frames = 0;
    for _ in 0..events {
        request.piece(EVENT);
        rig.read().await;
        frames += 1;
    }
    let writes = rig.writes() - before;
    request.piece(LAST);
    request.end();
    rig.until(|message| matches!(message, FromAgent::JobDone(_))).await;
    Sent { frames, writes }
}

/// All events are there at once.
async fn all_at_once(events: usize) -> Sent {
    let mut rig = Rig::start().await;
    let pieces = std::iter::repeat_n(EVENT, events).chain([LAST]).map(|event| Bytes::from_static(event.as_bytes()));
    rig.backend.reply([Reply::Stream(pieces.collect())]);
    let before = rig.writes();
    rig.job().await;
    let frames = rig.until(|message| matches!(message, FromAgent::JobDone(_))).await;
    Sent { frames, writes: rig.writes() - before }
}

#[test]
fn an_event_that_comes_alone_costs_its_frame_and_one_write() {
    let Cost { allocations, allocated, frames, writes } = per_event("one by one", one_by_one);
    assert!(allocations <= 1.1, "{allocations}");
    assert!(allocated <= 300.0, "{allocated}");
    assert_eq!((frames, writes), (1.0, 1.0));
}

#[test]
fn events_that_are_there_together_share_allocations_frames_and_writes() {
    let Cost { allocations, allocated, frames, writes } = per_event("all at once", all_at_once);
    assert!(allocations <= 0.1, "{allocations}");
    // A burst grows its buffer anew: a slow stream does not keep the one of its last burst.
    assert!(allocated <= 1_600.0, "{allocated}");
    assert!(frames <= 0.01, "{frames}");
    assert!(writes <= 0.006, "{writes}");
}
