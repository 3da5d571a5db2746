//! The offer is what healthy backends serve now, and every offered model can run.

use std::time::Duration;

use outpost::messages::ids::ModelId;
use outpost::messages::wire::{ErrorCode, FromAgent};
use outpost::testkit::{
    BackendKind, BackendPolicy, Event, Harness, Health, Price, ProbeError, Reply, RequestState, ScriptedBackend,
};
use tokio::time::Instant;

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_hangs_delays_nothing() {
    let hanging = ScriptedBackend::new("hanging", &["h"]);
    hanging.set_health(Health::Hanging);
    let good = ScriptedBackend::new("good", &["g"]);
    let mut harness = Harness::builder().backend(&hanging).backend(&good).start();
    let started = Instant::now();
    let mut link = harness.coordinator.welcome().await;
    link.ping(b"alive").await;
    assert!(started.elapsed() < Duration::from_millis(10));
    assert_eq!(link.offered().await, ["g"]);
    let settled = started.elapsed();
    assert!((250..260).contains(&settled.as_millis()), "{settled:?}: the first offer waits 250 ms for probes");
    let job = link.job("g", "{}");
    link.outcome_of(job).await.done();

    hanging.set_health(Health::Healthy);
    assert_eq!(link.offered().await, ["g", "h"]);
    assert!(started.elapsed() < Duration::from_secs(8), "the probe times out after 2 s, and is repeated 5 s later");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_first_offer_is_sent_once_every_backend_was_probed() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let started = Instant::now();
    let mut link = harness.coordinator.welcome().await;
    assert_eq!(link.offered().await, ["m"]);
    assert!(started.elapsed() < Duration::from_millis(10));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_model_the_coordinator_still_sees_the_agent() {
    let down = ScriptedBackend::new("down", &["m"]);
    down.set_health(Health::Failing(ProbeError::Unreachable));
    let mut harness = Harness::builder().backend(&down).start();
    let mut link = harness.coordinator.welcome().await;
    assert!(link.offered().await.is_empty());
    let nothing = |event: &Event| matches!(event, Event::NothingOnOffer(nothing) if nothing.probed == 1).then_some(());
    harness.event(nothing).await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_change_is_announced_and_its_absence_is_not() {
    let backend = ScriptedBackend::new("box", &["a", "b"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.welcome().await;
    assert_eq!(link.offered().await, ["a", "b"]);
    for _ in 0..5 {
        link.heartbeat().await;
    }
    assert!(backend.probes() >= 3);
    assert!(link.unread_messages().is_empty(), "nothing changed");
    backend.set_models(&["c", "b"]);
    assert_eq!(link.offered().await, ["b", "c"]);
    backend.set_report(|report| report.slots = Some(3));
    assert_eq!(link.capabilities().await.models[0].max_concurrent, 3);
    backend.set_report(|report| report.models[0].context_window = Some(4096));
    assert_eq!(link.capabilities().await.models[1].context_window, Some(4096));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backends_load_is_not_an_event() {
    let backend = ScriptedBackend::new("box", &["a"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.welcome().await;
    assert_eq!(link.offered().await, ["a"]);
    for busy in 0..3 {
        backend.set_report(|report| report.active_requests = Some(busy));
        for _ in 0..2 {
            link.heartbeat().await;
        }
    }
    assert!(backend.probes() >= 3);
    let told = harness.events();
    let up = told.iter().filter(|entry| matches!(entry.event, Event::BackendUp { .. })).count();
    assert_eq!(up, 1);
    assert!(link.unread_messages().is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn cloud_models_that_are_left_out_are_reported_when_their_number_changes() {
    let backend = ScriptedBackend::new("box", &["a"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for cloud_models in [0, 2, 2, 3] {
        backend.set_report(|report| report.cloud_models = cloud_models);
        let probes = backend.probes();
        backend.probed(probes + 2).await;
    }
    link.fence().await;
    let events = harness.events();
    let reported = events.iter().filter_map(|entry| match &entry.event {
        Event::CloudModelsNotOffered(event) => Some((event.backend.as_str(), event.models)),
        _ => None,
    });
    assert_eq!(reported.collect::<Vec<_>>(), [("box", 2), ("box", 3)]);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_connection_gets_an_offer() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    for _ in 0..3 {
        let mut link = harness.coordinator.welcome().await;
        assert_eq!(link.offered().await, ["m"]);
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_fails_is_withdrawn_and_comes_back_within_seconds() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.welcome().await;
    assert_eq!(link.offered().await, ["m"]);
    for error in [ProbeError::Unreachable, ProbeError::Unauthorized, ProbeError::NotReady, ProbeError::Unexpected("x")]
    {
        backend.set_health(Health::Failing(error.clone()));
        assert!(link.offered().await.is_empty());
        let job = link.job("m", "{}");
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::ModelNotLoaded, "{error}");
        let state = harness.snapshot();
        assert_eq!(state.backends["box"].cause.as_deref(), Some(error.to_string().as_str()));
        assert!(!state.is_ready());
        backend.set_health(Health::Healthy);
        let mended = Instant::now();
        assert_eq!(link.offered().await, ["m"]);
        assert!(mended.elapsed() < Duration::from_millis(5100));
        let job = link.job("m", "{}");
        link.outcome_of(job).await.done();
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn one_probe_without_an_answer_is_tolerated() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.coordinator.welcome().await;
    assert_eq!(link.offered().await, ["m"]);
    backend.set_health(Health::Hanging);
    backend.probed(2).await;
    backend.set_health(Health::Healthy);
    backend.probed(4).await;
    link.fence().await;
    assert!(link.unread_messages().iter().all(|message| !matches!(message, FromAgent::Capabilities(_))));
    backend.set_health(Health::Hanging);
    let hung = Instant::now();
    assert!(link.offered().await.is_empty(), "the second one in a row is not");
    assert!(hung.elapsed() < Duration::from_secs(35));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_that_finds_no_backend_triggers_a_probe_at_once() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    // The last probe was more than a second ago.
    link.heartbeat().await;
    backend.set_health(Health::Failing(ProbeError::Unreachable));
    backend.reply([Reply::Refuse]);
    let job = link.job("m", "{}");
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::BackendUnreachable);
    let failed = Instant::now();
    assert!(link.offered().await.is_empty());
    assert!(failed.elapsed() < Duration::from_millis(10), "{:?}", failed.elapsed());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn however_many_jobs_find_no_backend_it_is_probed_once_a_second() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply((0..8).map(|number| Reply::After(Duration::from_millis(250 * number), Box::new(Reply::Refuse))));
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    // The last probe was more than a second ago, and the next one is not due.
    link.heartbeat().await;
    let (before, started) = (backend.probes(), Instant::now());
    let jobs: Vec<_> = (0..8).map(|_| link.job("m", "{}")).collect();
    for job in jobs {
        assert_eq!(link.outcome_of(job).await.code(), ErrorCode::BackendUnreachable);
    }
    assert_eq!(started.elapsed().as_millis() / 250, 7);
    // At 0 s for the first job and at 1 s for the next four.
    assert_eq!(backend.probes() - before, 2);
    // At 2 s for the last ones, and then as ever.
    backend.probed(before + 3).await;
    assert_eq!(started.elapsed().as_secs(), 2);
    backend.probed(before + 4).await;
    assert!(started.elapsed().as_secs() > 10, "{:?}", started.elapsed());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_running_job_outlives_the_offer_of_its_model() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    let mut job = outpost::testkit::job_frame("m", "{}");
    job.deadline = Duration::from_secs(600);
    link.send_job(&job);
    let request = backend.request().await;
    backend.set_models(&[]);
    assert!(link.offered().await.is_empty());
    request.head();
    request.piece("data: [DONE]\n\n");
    request.end();
    link.outcome_of(job.job_id).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn another_server_of_the_same_name_ends_the_jobs_of_the_old_one() {
    for models in [&["m", "n"][..], &["m"]] {
        let backend = ScriptedBackend::new("box", &["m"]);
        backend.reply([Reply::Hang]);
        let mut harness = Harness::builder().backend(&backend).start();
        let mut link = harness.connect().await;
        let mut job = outpost::testkit::job_frame("m", "{}");
        job.deadline = Duration::from_secs(600);
        link.send_job(&job);
        let mut request = backend.request().await;
        backend.replace_server();
        backend.set_models(models);
        assert_eq!(link.outcome_of(job.job_id).await.code(), ErrorCode::Internal, "{models:?}");
        request.dropped().await;
        if models.len() > 1 {
            assert_eq!(link.offered().await, models);
        }
        let next = link.job(models[models.len() - 1], "{}");
        link.outcome_of(next).await.done();
        assert!(link.unread_messages().iter().all(|message| !matches!(message, FromAgent::Capabilities(_))));
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_model_that_several_backends_serve_is_offered_once_and_runs_where_it_is_offered() {
    let kinds = [
        ("remote", BackendKind::Vllm, false),
        ("other", BackendKind::OpenAi, true),
        ("ollama", BackendKind::Ollama, true),
        ("lmstudio", BackendKind::LmStudio, true),
        ("llamacpp", BackendKind::LlamaCpp, true),
        ("vllm", BackendKind::Vllm, true),
    ];
    let backends = kinds.map(|(name, kind, _)| {
        let backend = ScriptedBackend::new(name, &["m"]);
        backend.set_report(|report| report.kind = kind);
        backend
    });
    let mut builder =
        Harness::builder().policy(|id, _| BackendPolicy { local: id.as_str() != "remote", ..BackendPolicy::default() });
    for backend in &backends {
        builder = builder.backend(backend);
    }
    let mut harness = builder.start();
    let mut link = harness.coordinator.welcome().await;
    // The best one goes each time.
    for backend in backends.iter().rev() {
        let offered = link.capabilities().await.models;
        let kind = kinds.iter().find(|(name, ..)| *name == outpost::testkit::Source::name(backend)).map(|kind| kind.1);
        assert_eq!(offered.iter().map(|model| model.backend.as_str()).collect::<Vec<_>>(), [kind.unwrap().as_str()]);
        let job = link.job("m", "{}");
        link.outcome_of(job).await.done();
        assert_eq!(backend.request().await.state(), RequestState::Finished);
        backend.set_health(Health::Failing(ProbeError::Unreachable));
    }
    assert!(link.offered().await.is_empty());
    assert!(backends.iter().all(|backend| backend.requests().len() == 1));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_model_has_its_price_and_one_of_price_zero_is_not_offered() {
    let backend = ScriptedBackend::new("box", &["cheap", "free", "plain"]);
    let price = |input_per_1m, output_per_1m| Price { input_per_1m, output_per_1m };
    let mut harness = Harness::builder()
        .backend(&backend)
        .settings(|settings| {
            settings.prices.by_model.insert(ModelId::from("cheap"), price(10, 20));
            settings.prices.by_model.insert(ModelId::from("free"), price(0, 0));
        })
        .start();
    let mut link = harness.coordinator.welcome().await;
    let offered = link.capabilities().await.models;
    let prices: Vec<_> =
        offered.iter().map(|model| (model.model_id.as_str(), model.input_per_1m, model.output_per_1m)).collect();
    assert_eq!(prices, [("cheap", 10, 20), ("plain", 500_000, 750_000)]);
    let job = link.job("free", "{}");
    assert_eq!(link.outcome_of(job).await.code(), ErrorCode::ModelNotLoaded);
    harness.stop().await;
}
