//! No more jobs than there are slots, a refusal for each one over, and no more memory than there are bounds.

use std::time::Duration;

use outpost::messages::endpoint::{AnswerForm, Endpoint};
use outpost::messages::ids::JobId;
use outpost::messages::wire::{ErrorCode, Extension, Tokens};
use outpost::testkit::{BackendPolicy, Harness, LinkFault, Reply, ScriptedBackend, StreamFault, answer, job_frame_at};
use tokio::time::Instant;

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_agent_runs_as_many_jobs_as_its_limit() {
    let backends = ["a", "b"].map(|name| ScriptedBackend::new(name, &[name]));
    let mut builder = Harness::builder().max_concurrent(3);
    for backend in &backends {
        backend.reply_always(Reply::ByHand);
        builder = builder.backend(backend);
    }
    let mut harness = builder.start();
    let mut link = harness.connect().await;
    let jobs = ["a", "b", "a", "b", "a"].map(|model| link.job(model, "{}"));
    for refused in &jobs[3..] {
        assert_eq!(link.outcome_of(*refused).await.code(), ErrorCode::OutOfCapacity);
    }
    let state = harness.until(|state| state.in_flight == 3).await;
    assert_eq!(state.jobs.refused.get("out_of_capacity"), Some(&2));

    // The slot is free when the coordinator knows that the job ended.
    let mut request = backends[1].request().await;
    request.head();
    answer(Endpoint::ChatCompletions, "x", 1, 1).into_iter().for_each(|piece| request.piece(piece));
    request.end();
    link.outcome_of(jobs[1]).await.done();
    request.finished().await;
    let next = [link.job("a", "{}"), link.job("a", "{}")];
    assert_eq!(link.outcome_of(next[1]).await.code(), ErrorCode::OutOfCapacity);
    assert_eq!(harness.until(|state| state.in_flight == 3).await.jobs.admitted, 4);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_runs_as_many_jobs_as_its_slots_or_its_configured_limit() {
    let slots = ScriptedBackend::new("slots", &["s"]);
    slots.set_report(|report| report.slots = Some(2));
    let told = ScriptedBackend::new("told", &["t", "t2"]);
    told.set_report(|report| report.slots = Some(7));
    let mut harness = Harness::builder()
        .backend(&slots)
        .backend(&told)
        .policy(|id, _| BackendPolicy {
            max_concurrent: (id.as_str() == "told").then_some(1),
            local: true,
            ..BackendPolicy::default()
        })
        .start();
    slots.reply_always(Reply::Hang);
    told.reply_always(Reply::Hang);
    let mut link = harness.coordinator.welcome().await;
    let offered = link.capabilities().await.models;
    let limits: Vec<_> = offered.iter().map(|model| (model.model_id.as_str(), model.max_concurrent)).collect();
    assert_eq!(limits, [("s", 2), ("t", 1), ("t2", 1)]);

    let refused = [("s", false), ("s", false), ("s", true), ("t", false), ("t", true), ("t2", true)];
    for (model, refused) in refused {
        let job = link.job(model, "{}");
        link.fence().await;
        let codes: Vec<_> = match refused {
            true => vec![link.outcome_of(job).await.code()],
            false => vec![],
        };
        assert!(codes.iter().all(|code| *code == ErrorCode::OutOfCapacity));
        assert!(link.unread_messages().is_empty(), "{model}");
    }
    assert_eq!((slots.peak(), told.peak()), (2, 1));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_spent_token_budget_refuses_until_a_minute_has_passed() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::Stream(answer(Endpoint::ChatCompletions, "x", 30, 20)));
    let mut harness = Harness::builder()
        .backend(&backend)
        .settings(|settings| settings.limits.max_tokens_per_minute = Some(100))
        .start();
    let mut link = harness.connect().await;
    let request = r#"{"max_tokens":50}"#;
    for _ in 0..2 {
        let job = link.job("m", request);
        link.outcome_of(job).await.done();
    }
    let job = link.job("m", request);
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::OutOfCapacity);
    for _ in 0..5 {
        link.heartbeat().await;
    }
    let job = link.job("m", request);
    link.outcome_of(job).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn twenty_thousand_jobs_over_capacity_get_a_refusal_each() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::Hang);
    let mut harness = Harness::builder().backend(&backend).max_concurrent(1).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    backend.request().await;
    let begun = Instant::now();
    let jobs: Vec<JobId> = (0..20_000).map(|_| link.job("m", "{}")).collect();
    for job in jobs {
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::OutOfCapacity);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "none had to wait for something else to happen");
    assert!(link.unread_messages().is_empty());
    assert_eq!(backend.requests().len(), 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn refusals_that_piled_up_are_all_sent_when_the_coordinator_reads_again() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    link.fail(LinkFault::StopReading);
    let jobs: Vec<JobId> = (0..1200).map(|_| link.job("m", "{}")).collect();
    harness.until(|state| state.jobs.refused.values().sum::<u64>() == 1200).await;
    let begun = Instant::now();
    link.resume_reading();
    for job in jobs {
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::ModelNotLoaded);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_sends_jobs_and_never_reads_is_held_back() {
    // Refused jobs, jobs that fail at once, and jobs that are done at once: none of their last frames may pile up.
    for (model, reply) in [("other", None), ("m", Some(Reply::Refuse)), ("m", None)] {
        let backend = ScriptedBackend::new("box", &["m"]);
        if let Some(reply) = reply {
            backend.reply_always(reply);
        }
        let mut harness = Harness::builder().backend(&backend).start();
        let mut link = harness.connect().await;
        link.fail(LinkFault::StopReading);
        let stopped = Instant::now();
        (0..8_000).for_each(|_| {
            link.job(model, "{}");
        });
        let all = link.unsent();
        harness.until(|state| state.last_disconnect.is_some()).await;
        assert_eq!(stopped.elapsed().as_secs(), 30, "a write that stands still ends the connection");
        let taken = (all - link.unsent()) * 8_000 / all;
        assert!(taken < 4000, "{taken} of 8,000 jobs were taken");
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn backends_are_held_back_by_a_coordinator_that_reads_slowly() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply_always(Reply::ByHand);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    link.fail(LinkFault::StopReading);
    let job = link.job("m", "{}");
    let mut request = backend.request().await;
    request.head();
    // 6 MiB, of which a job may hold 256 KiB.
    (0..192).for_each(|_| request.piece(vec![b'\n'; 32 * 1024]));
    request.taken(8).await;
    while request.taken_within(Duration::from_secs(1)).await {}
    assert!(request.pieces_taken() < 20, "{} pieces were read", request.pieces_taken());
    answer(Endpoint::ChatCompletions, "end", 1, 1).into_iter().for_each(|piece| request.piece(piece));
    request.end();
    link.resume_reading();
    assert!(link.outcome_of(job).await.bytes.len() > 6 << 20);
    harness.stop().await;
}

/// A request whose prompt is estimated at 60 tokens.
fn of_60_tokens() -> String {
    format!(r#"{{"prompt":"{}"}}"#, "x".repeat(238))
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_running_job_holds_its_estimate_and_one_that_was_refused_gives_it_back() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::Status(400, "{}".into()), Reply::Hang]);
    let mut harness = Harness::builder()
        .backend(&backend)
        .settings(|settings| settings.limits.max_tokens_per_minute = Some(100))
        .start();
    let mut link = harness.connect().await;
    let request = &of_60_tokens();
    let refused = link.job("m", request);
    assert_eq!(link.outcome_of(refused).await.code(), ErrorCode::Internal);
    let runs = link.job("m", request);
    backend.request().await;
    let over = link.job("m", request);
    assert_eq!(link.outcome_of(over).await.code(), ErrorCode::OutOfCapacity);
    assert_eq!(link.outcome_of(runs).await.code(), ErrorCode::BackendTimeout);
    // The late one had not begun: it counts for an eighth of the budget.
    let next = link.job("m", request);
    link.outcome_of(next).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_body_that_breaks_midway_keeps_its_estimate_and_a_relayed_refusal_does_not() {
    let chat = Endpoint::ChatCompletions;
    let begun = Reply::StreamThen(answer(chat, "x", 30, 20).drain(..1).collect(), StreamFault::Break);
    for (reply, kept) in [(begun, true), (Reply::Status(400, "{}".into()), false)] {
        let backend = ScriptedBackend::new("box", &["m"]);
        backend.reply([reply]);
        let mut harness = Harness::builder()
            .backend(&backend)
            .settings(|settings| settings.limits.max_tokens_per_minute = Some(100))
            .start();
        harness.coordinator.offer([Extension::Endpoints].into_iter().collect());
        let mut link = harness.connect().await;
        let jobs = [(); 2].map(|()| job_frame_at(chat, AnswerForm::Whole, "m", of_60_tokens()));
        link.send_job(&jobs[0]);
        assert_eq!(link.outcome_of(jobs[0].job_id).await.code(), ErrorCode::Internal);
        link.send_job(&jobs[1]);
        let next = link.outcome_of(jobs[1].job_id).await;
        if kept {
            assert_eq!(next.code(), ErrorCode::OutOfCapacity);
        } else {
            assert_eq!(next.done().tokens, Tokens::new(3, 5));
        }
        harness.stop().await;
    }
}
