//! A connection is alive as long as bytes come, and dead soon after they stop.

use std::time::Duration;

use bytes::Bytes;
use outpost::testkit::events::DisconnectCause;
use outpost::testkit::{CoordinatorLink, Event, Frame, Harness, LinkEnd, LinkFault, Phase, Reply, ScriptedBackend};
use tokio::time::Instant;

fn lost(event: &Event) -> Option<DisconnectCause> {
    match event {
        Event::Disconnected(disconnected) => Some(disconnected.cause.clone()),
        _ => None,
    }
}

async fn next_ping(link: &mut CoordinatorLink) {
    link.take("a ping", |frame| matches!(frame, Frame::Ping(_)).then_some(())).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_agent_pings_every_twenty_seconds_and_lives_on_pongs_alone() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    let up = Instant::now();
    for ping in 1..=30 {
        next_ping(&mut link).await;
        assert_eq!(up.elapsed().as_secs(), ping * 20);
    }
    assert_eq!((harness.snapshot().phase, harness.snapshot().connections), (Phase::Connected, 1));
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn silence_for_45_seconds_ends_the_connection() {
    for fault in [LinkFault::IgnorePings, LinkFault::StopReading] {
        let mut harness = Harness::builder().start();
        let mut link = harness.connect().await;
        link.ping(b"the last word").await;
        let last = Instant::now();
        link.fail(fault);
        let cause = harness.event(lost).await;
        assert_eq!((cause, last.elapsed().as_secs()), (LinkEnd::Silence.into(), 45), "{fault:?}");
        harness.connect().await;
        harness.stop().await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_frame_that_trickles_in_keeps_the_connection_alive() {
    let mut harness = Harness::builder().start();
    let mut link = harness.connect().await;
    link.fail(LinkFault::IgnorePings);
    let text = br#"{"type":"weather"}"#;
    link.send_raw_bytes(&[0x81, text.len() as u8]);
    // A byte every 30 s: 9 minutes for one frame.
    for byte in text {
        link.heartbeat().await;
        link.heartbeat().await;
        link.send_raw_bytes(&[*byte]);
    }
    link.fence().await;
    assert_eq!(harness.snapshot().connections, 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_write_that_stands_still_for_30_seconds_ends_the_connection_even_if_the_peer_sends() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    let mut request = backend.request().await;
    request.head();
    link.fail(LinkFault::StopReading);
    (0..24).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    request.taken(24).await;
    let stalled = Instant::now();
    link.send_frame(&Frame::Ping(Bytes::from_static(b"still here")));
    let cause = harness.event(lost).await;
    assert_eq!((cause, stalled.elapsed().as_secs()), (LinkEnd::WriteStalled.into(), 30));
    request.dropped().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_write_that_moves_now_and_then_is_not_a_stall() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).link_capacity(4096).start();
    let mut link = harness.connect().await;
    let mut job = outpost::testkit::job_frame("m", "{}");
    job.deadline = Duration::from_secs(3600);
    link.send_job(&job);
    let mut request = backend.request().await;
    request.head();
    link.fail(LinkFault::StopReading);
    (0..96).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    request.taken(24).await;
    let begun = Instant::now();
    for _ in 0..10 {
        // The agent is alone with its clock: 25 s pass, then the coordinator reads a moment.
        tokio::time::advance(Duration::from_secs(25)).await;
        link.send_frame(&Frame::Pong(Bytes::new()));
        link.unread();
        link.resume_reading();
        link.chunk_of(job.job_id).await;
        link.fail(LinkFault::StopReading);
    }
    link.resume_reading();
    request.piece("data: [DONE]\n\n");
    request.end();
    link.outcome_of(job.job_id).await.done();
    assert!(begun.elapsed() >= Duration::from_secs(250));
    assert_eq!(harness.snapshot().connections, 1);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_pong_overtakes_waiting_response_bytes() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    let mut request = backend.request().await;
    request.head();
    link.fail(LinkFault::StopReading);
    (0..60).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    request.taken(30).await;
    link.send_frame(&Frame::Ping(Bytes::from_static(b"quick")));
    link.resume_reading();
    let mut before = 0;
    loop {
        match link.next_frame().await {
            Frame::Pong(payload) if payload == "quick" => break,
            Frame::Text(text) => before += text.len(),
            _ => {}
        }
    }
    assert!(before < 200 * 1024, "{before} bytes of 640 KiB came before the pong");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_heartbeat_overtakes_waiting_response_bytes() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    let mut request = backend.request().await;
    request.head();
    link.heartbeat().await;
    link.fail(LinkFault::StopReading);
    (0..60).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    request.taken(30).await;
    // The next heartbeat is due while the write stands still.
    tokio::time::advance(Duration::from_secs(16)).await;
    link.resume_reading();
    let mut before = 0;
    loop {
        match link.next_frame().await {
            Frame::Text(text) if text.starts_with(br#"{"type":"heartbeat""#) => break,
            Frame::Text(text) => before += text.len(),
            _ => {}
        }
    }
    assert!(before < 200 * 1024, "{before} bytes of 640 KiB came before the heartbeat");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_flood_of_pings_is_answered_by_the_newest_and_starves_no_job() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    let mut link = harness.connect().await;
    for round in 0u32..50_000 {
        link.send_frame(&Frame::Ping(Bytes::copy_from_slice(&round.to_be_bytes())));
    }
    let job = link.job("m", "{}");
    link.ping(b"the newest").await;
    link.outcome_of(job).await.done();
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_reads_slowly_and_never_gets_to_our_ping_lives() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).link_capacity(4096).start();
    let mut link = harness.connect().await;
    link.fail(LinkFault::IgnorePings);
    let mut job = outpost::testkit::job_frame("m", "{}");
    job.deadline = Duration::from_secs(3600);
    link.send_job(&job);
    let mut request = backend.request().await;
    request.head();
    link.fail(LinkFault::StopReading);
    (0..256).for_each(|_| request.piece(vec![b'\n'; 8 * 1024]));
    request.taken(30).await;
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(25)).await;
        link.unread();
        link.resume_reading();
        link.chunk_of(job.job_id).await;
        link.fail(LinkFault::StopReading);
    }
    assert_eq!((harness.snapshot().phase, harness.snapshot().connections), (Phase::Connected, 1));
    // Then it hangs.
    let hung = Instant::now();
    harness.event(lost).await;
    assert!(hung.elapsed() <= Duration::from_secs(45), "{:?}", hung.elapsed());
    request.dropped().await;
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_has_time_to_read_the_bytes_before_our_ping() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).link_capacity(4 * 1024 * 1024).start();
    let mut link = harness.connect().await;
    link.job("m", "{}");
    let request = backend.request().await;
    request.head();
    link.fence().await;
    let heard = Instant::now();
    link.fail(LinkFault::StopReading);
    (0..24).for_each(|_| request.piece(vec![b'\n'; 32 * 1024]));
    request.piece("data: [DONE]\n\n");
    request.end();
    harness.until(|state| state.in_flight == 0).await;
    // 1 MiB in base64.
    let cause = harness.event(lost).await;
    assert_eq!((cause, heard.elapsed().as_secs()), (LinkEnd::Silence.into(), 45 + 16 * 4));
    harness.stop().await;
}
