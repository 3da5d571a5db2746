//! Whatever the peers do, the process stays small: its highest resident memory is what the system reports.

#![cfg(target_os = "linux")]

use bytes::Bytes;
use outpost::messages::wire::{ErrorCode, Extensions};
use outpost::testkit::{LinkFault, Request, RequestState};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    HELLO, Home, NO_BACKEND, Outpost, Setup, agent, backend, close_code, coordinator, entry, request, reset, within,
};

/// Resident memory that the process never reaches, in KiB.
const MOST: u64 = 64 << 10;
const MIB: usize = 1 << 20;

#[track_caller]
fn assert_small(process: &Outpost) {
    let highest = process.memory("VmHWM");
    assert!(highest < MOST, "{highest} KiB at its highest");
}

/// Answers with so many MiB of a body, in pieces of one MiB.
fn offer(request: &Request, mebibytes: usize) {
    let piece = Bytes::from(vec![b'x'; MIB]);
    for _ in 0..mebibytes {
        request.piece(piece.clone());
    }
    request.end();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_stops_reading_holds_back_200_mb_at_the_backends() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("m").await;
    let mut process = agent(&coordinator, &home, &entry(&backend)).start();
    let status = process.status_addr().await;
    let mut link = coordinator.serving("m").await;
    link.fail(LinkFault::StopReading);
    let mut requests = Vec::new();
    for _ in 0..8 {
        link.job("m", HELLO);
        let request = backend.request().await;
        request.head();
        offer(&request, 25);
        requests.push(request);
    }
    // It stands still when nothing moves while the agent answers many requests for its health.
    let taken = |requests: &[Request]| requests.iter().map(Request::pieces_taken).sum::<usize>();
    let mut still = 0;
    let mut last = 0;
    let stands_still = async {
        while still < 100 {
            request(status, "GET /healthz", "", "").await;
            let now = taken(&requests);
            still = if now == last && now > 0 { still + 1 } else { 0 };
            last = now;
        }
    };
    within("standstill", stands_still).await;
    assert!(
        last < 200 && requests.iter().all(|request| request.state() == RequestState::Open),
        "{last} MiB were taken"
    );
    assert_small(&process);
    reset(link);
    for request in &mut requests {
        request.dropped().await;
    }
    assert_small(&process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_line_of_50_mb_is_passed_on_and_not_kept() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    // Without base64 the test takes less time.
    coordinator.offer(Extensions::without_resume());
    let backend = backend("m").await;
    let process = agent(&coordinator, &home, &entry(&backend)).start();
    let mut link = coordinator.serving("m").await;
    let job = link.job("m", HELLO);
    let request = backend.request().await;
    request.head();
    offer(&request, 50);
    let trace = link.outcome_of(job).await;
    assert_eq!((trace.code(), trace.error().tokens_emitted), (ErrorCode::Internal, 50 * MIB as u64));
    assert_eq!(trace.bytes.len(), 50 * MIB);
    assert_small(&process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn of_an_error_body_of_80_mb_a_bounded_piece_is_read_and_nothing_is_passed_on() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("m").await;
    let process = agent(&coordinator, &home, &entry(&backend)).start();
    let mut link = coordinator.serving("m").await;
    let job = link.job("m", HELLO);
    let mut request = backend.request().await;
    request.head_of(500, "application/json");
    offer(&request, 80);
    let trace = link.outcome_of(job).await;
    assert!(trace.bytes.is_empty());
    assert_eq!(trace.code(), ErrorCode::Internal);
    request.dropped().await;
    // The system's buffers of both ends take more than the agent reads.
    let taken = request.pieces_taken();
    assert!(taken < 40, "{taken} MiB were taken");
    assert_small(&process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_frame_that_announces_a_gigabyte_is_refused_before_its_body() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let mut process = agent(&coordinator, &home, NO_BACKEND).start();
    let mut link = coordinator.welcome().await;
    link.ping(b"settled").await;
    let before = process.memory("VmHWM");
    link.send_raw_bytes(&[&[0x81, 127][..], &(1u64 << 30).to_be_bytes(), &[b' '; 100]].concat());
    assert_eq!(close_code(&mut link).await, Some(1009));
    process.logged("a message over the size limit").await;
    let grown = process.memory("VmHWM") - before;
    assert!(grown < 4 << 10, "{grown} KiB for a header");
    coordinator.welcome().await.ping(b"settled").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn fragments_that_add_up_to_too_much_are_refused() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let process = agent(&coordinator, &home, NO_BACKEND).env("OUTPOST_MAX_MESSAGE_SIZE", "1MiB").start();
    let mut link = coordinator.welcome().await;
    let payload = vec![b' '; MIB / 2];
    let fragment = |opcode: u8| [&[opcode, 127][..], &(payload.len() as u64).to_be_bytes(), &payload].concat();
    link.send_raw_bytes(&fragment(1));
    link.send_raw_bytes(&fragment(0));
    link.ping(b"settled").await;
    link.send_raw_bytes(&[0, 1]);
    assert_eq!(close_code(&mut link).await, Some(1009));
    assert_small(&process);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_flood_of_pongs_of_a_stranger_does_not_stay_in_a_coordinator() {
    let mut process = Setup::coordinator().start();
    let addr = process.coordinator_addr().await;
    let mut stranger = BufReader::new(TcpStream::connect(addr).await.unwrap());
    let upgrade = "GET /agent HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stranger.write_all(upgrade.as_bytes()).await.unwrap();
    let mut line = String::new();
    within("upgrade", stranger.read_line(&mut line)).await.unwrap();
    assert!(line.contains("101"), "{line}");
    let before = process.memory("VmHWM");
    let pongs = [0x8a, 0x80, 0, 0, 0, 0].repeat(MIB / 6);
    let flood = async {
        for _ in 0..16 {
            // It may have been thrown out.
            if stranger.write_all(&pongs).await.is_err() {
                return;
            }
        }
    };
    within("end of the flood", flood).await;
    let grown = process.memory("VmHWM") - before;
    assert!(grown < 3 << 10, "{grown} KiB for one connection");
}
