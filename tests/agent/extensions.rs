//! What goes beyond the base protocol is used where the coordinator offers it, and nowhere else.

use bytes::Bytes;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::{BinaryChunk, Extension, Extensions, FromAgent};
use outpost::testkit::{
    CoordinatorLink, Event, Frame, Harness, JobEnd, JobTrace, LinkFault, Reply, ScriptedBackend, StreamFault, answer,
};
use serde_json::Value;

/// Binary chunks alone.
fn binary() -> Extensions {
    [Extension::Binary].into_iter().collect()
}

/// More than a frame holds, in pieces that fit nowhere, and bytes that are not text.
fn strange() -> Vec<Bytes> {
    let mut pieces: Vec<Bytes> = (0..40).map(|i: u8| Bytes::from(vec![i | 0xc0; 5003])).collect();
    pieces.insert(0, Bytes::from_static(b": \xff\xfe\x00\r"));
    pieces.push(Bytes::from_static(b"\n\n"));
    pieces.extend(answer(Endpoint::ChatCompletions, "end", 3, 5));
    pieces
}

/// One job of [`strange`] bytes over a new connection: what came of it, and the frames that said so.
async fn relayed(offer: Extensions) -> (JobTrace, Vec<Frame>, Vec<String>) {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::Stream(strange())]);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(offer);
    let mut link = harness.coordinator.next_connection().await;
    link.challenge();
    let keys = link.take("auth_response", |frame| match frame {
        Frame::Text(text) => serde_json::from_slice::<Value>(text).ok(),
        _ => None,
    });
    let keys = keys.await.as_object().unwrap().keys().cloned().collect();
    link.accept(Some("agent-1"));
    link.capabilities().await;
    let agreed = harness.event(|event| match event {
        Event::Connected(connected) => Some(connected.extensions),
        _ => None,
    });
    assert_eq!(agreed.await, offer);
    let job = link.job("m", "{}");
    let mut frames = Vec::new();
    let mut bytes = Vec::new();
    let end = loop {
        let frame = link.next_frame().await;
        match &frame {
            Frame::Binary(chunk) => bytes.extend_from_slice(&BinaryChunk::parse(chunk).ok().unwrap().bytes),
            Frame::Text(text) => match serde_json::from_slice(text).unwrap() {
                FromAgent::JobDone(done) => break JobEnd::Done(done),
                FromAgent::JobChunk(_) => {}
                other => panic!("unexpected {other:?}"),
            },
            other => panic!("unexpected {other:?}"),
        }
        frames.push(frame);
    };
    // The same job once more, as the harness reads either form.
    backend.reply([Reply::Stream(strange())]);
    let again = link.job("m", "{}");
    let trace = link.outcome_of(again).await;
    if offer.is_empty() {
        assert!(bytes.is_empty());
    } else {
        assert!(bytes == trace.bytes);
    }
    assert!(matches!(end, JobEnd::Done(done) if done.job_id == job));
    harness.stop().await;
    (trace, frames, keys)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn with_binary_on_offer_chunks_are_binary_frames_without_a_gap() {
    let (trace, frames, keys) = relayed(binary()).await;
    assert!(trace.bytes == strange().concat());
    assert_eq!(keys, ["agent_version", "extensions", "pubkey", "signature", "type"]);
    let mut offset = 0;
    assert!(frames.len() > 5, "200 KB are several frames");
    for frame in &frames {
        let Frame::Binary(frame) = frame else { panic!("not binary: {frame:?}") };
        assert!(frame.len() < 64 * 1024);
        let chunk = BinaryChunk::parse(frame).ok().unwrap();
        assert_eq!(chunk.offset, offset);
        offset += chunk.bytes.len() as u64;
    }
    assert_eq!(offset, trace.bytes.len() as u64);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_an_offer_no_frame_is_binary_and_no_extension_is_named() {
    let (trace, frames, keys) = relayed(Extensions::NONE).await;
    assert!(trace.bytes == strange().concat());
    assert_eq!(keys, ["agent_version", "pubkey", "signature", "type"]);
    assert!(frames.iter().all(|frame| matches!(frame, Frame::Text(_))));
}

async fn one_job(link: &mut CoordinatorLink) -> (JobTrace, bool) {
    let job = link.job("m", "{}");
    let binary = link.take("the first chunk", |frame| match frame {
        Frame::Binary(_) => Some(true),
        Frame::Text(text) => matches!(serde_json::from_slice(text), Ok(FromAgent::JobChunk(_))).then_some(false),
        _ => None,
    });
    let binary = binary.await;
    (link.outcome_of(job).await, binary)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_connection_agrees_for_itself() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut harness = Harness::builder().backend(&backend).start();
    for offer in [binary(), Extensions::NONE, binary()] {
        harness.coordinator.offer(offer);
        let mut link = harness.connect().await;
        let (trace, binary) = one_job(&mut link).await;
        trace.done();
        assert_eq!(binary, !offer.is_empty());
        link.fail(LinkFault::HangUp);
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_error_after_binary_chunks_counts_their_bytes() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let half: Vec<Bytes> = answer(Endpoint::ChatCompletions, "x", 1, 1).into_iter().take(2).collect();
    backend.reply([Reply::StreamThen(half.clone(), StreamFault::Break)]);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(binary());
    let mut link = harness.connect().await;
    let job = link.job("m", "{}");
    let trace = link.outcome_of(job).await;
    assert_eq!(trace.bytes, half.concat());
    assert_eq!(trace.error().tokens_emitted, trace.bytes.len() as u64);
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_reads_slowly_holds_back_binary_chunks_and_loses_none() {
    let backend = ScriptedBackend::new("box", &["m"]);
    let mut pieces: Vec<Bytes> = (0..700).map(|i: u32| format!(": {i} {}\n\n", "x".repeat(8000)).into()).collect();
    pieces.extend(answer(Endpoint::ChatCompletions, "end", 1, 1));
    backend.reply([Reply::Stream(pieces.clone())]);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(binary());
    let mut link = harness.connect().await;
    link.fail(LinkFault::StopReading);
    let job = link.job("m", "{}");
    backend.request().await;
    link.resume_reading();
    let trace = link.outcome_of(job).await;
    trace.done();
    assert!(trace.bytes == pieces.concat(), "5.6 MB through a budget of 4");
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_cancelled_job_is_silent_in_binary_too() {
    let backend = ScriptedBackend::new("box", &["m"]);
    backend.reply([Reply::ByHand]);
    let mut harness = Harness::builder().backend(&backend).start();
    harness.coordinator.offer(binary());
    let mut link = harness.connect().await;
    let job = link.job("m", "{}");
    let request = backend.request().await;
    request.head();
    request.piece("data: {}\n\n");
    assert_eq!(link.chunk_of(job).await, b"data: {}\n\n");
    link.cancel_and_silence(job).await;
    link.fence().await;
    assert!(link.unread().iter().all(|frame| !matches!(frame, Frame::Binary(_))));
    harness.stop().await;
}
