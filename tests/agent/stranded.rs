//! A job that fails before its first response byte, while all other backends are full, waits for a slot.

use std::time::Duration;

use outpost::messages::wire::ErrorCode;
use outpost::testkit::{CoordinatorLink, Harness, Reply, ScriptedBackend, StreamFault, job_frame};
use tokio::time::Instant;

/// Two backends of one model with a slot each, named in the order in which idle ones are chosen.
async fn agent() -> ([ScriptedBackend; 2], Harness, CoordinatorLink) {
    let backends = ["first", "second"].map(|name| ScriptedBackend::new(name, &["m"]));
    backends.iter().for_each(|backend| backend.set_report(|report| report.slots = Some(1)));
    let [first, second] = &backends;
    let mut harness = Harness::builder().backend(first).backend(second).start();
    let link = harness.connect().await;
    (backends, harness, link)
}

fn after(seconds: u64, reply: Reply) -> Reply {
    Reply::After(Duration::from_secs(seconds), Box::new(reply))
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_is_done_by_the_next_slot_that_is_free() {
    for fault in [Reply::Refuse, Reply::Break, Reply::StreamThen(vec![], StreamFault::Break)] {
        let ([first, second], mut harness, mut link) = agent().await;
        first.reply([after(1, fault)]);
        second.reply([after(9, Reply::Status(400, "{}".into()))]);
        let (job, other) = (link.job("m", "{}"), link.job("m", "{}"));
        link.outcome_of(other).await.error();
        link.outcome_of(job).await.done();
        assert_eq!((first.requests().len(), second.requests().len(), second.peak()), (1, 2, 1));
        let jobs = harness.until(|state| state.in_flight == 0).await.jobs;
        assert_eq!((jobs.admitted, jobs.done, jobs.moved), (2, 1, 1));
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_waits_until_its_deadline_and_no_longer() {
    let ([first, second], mut harness, mut link) = agent().await;
    first.reply([after(1, Reply::Refuse)]);
    second.reply([Reply::Hang]);
    let mut job = job_frame("m", "{}");
    job.deadline = Duration::from_secs(6);
    let sent = Instant::now();
    link.send_job(&job);
    let other = link.job("m", "{}");
    assert_eq!(link.outcome_of(job.job_id).await.code(), ErrorCode::BackendTimeout);
    assert_eq!((sent.elapsed().as_secs(), second.requests().len()), (6, 1));
    link.cancel_and_silence(other).await;
    assert_eq!(harness.until(|state| state.in_flight == 0).await.jobs.cancelled, 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancel_reaches_it_and_so_does_the_end_of_the_agent() {
    for cancelled in [true, false] {
        let ([first, second], mut harness, mut link) = agent().await;
        first.reply([Reply::ByHand]);
        second.reply([Reply::Hang]);
        let (job, _) = (link.job("m", "{}"), link.job("m", "{}"));
        first.request().await.break_off();
        link.fence().await;
        if cancelled {
            link.cancel_and_silence(job).await;
            assert_eq!(harness.until(|state| state.in_flight == 1).await.jobs.cancelled, 1);
        } else {
            harness.drain();
            assert_eq!(link.outcome_of(job).await.code(), ErrorCode::Internal);
        }
        assert_eq!(second.requests().len(), 1);
        harness.stop().await;
    }
}
