//! Whatever the peers do, the process stays small: its highest resident memory is what the system says it was.

#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use outpost::messages::wire::ErrorCode;
use outpost::transport::websocket::codec::Frame;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Backend, Coordinator, End, Exchange, Home, NOBODY, Outpost, Setup, agent, request, within};

/// Resident memory that the process never reaches, in KiB.
const MOST: u64 = 64 << 10;
const MIB: usize = 1 << 20;

#[track_caller]
fn assert_small(process: &Outpost) {
    let highest = process.memory("VmHWM");
    assert!(highest < MOST, "{highest} KiB at its highest");
}

/// Writes chunks of a body until it has written them all or the agent leaves, and counts what was taken.
async fn offer(mut exchange: Exchange, mebibytes: usize, taken: Arc<AtomicU64>) {
    let filler = [&b"100000\r\n"[..], &vec![b'x'; MIB], b"\r\n"].concat();
    for _ in 0..mebibytes {
        let mut rest = &filler[..];
        while !rest.is_empty() {
            let Ok(written) = exchange.stream.write(rest).await else { return };
            taken.fetch_add(written as u64, Ordering::Relaxed);
            rest = &rest[written..];
        }
    }
    exchange.raw(b"0\r\n\r\n").await;
}

#[tokio::test]
async fn a_coordinator_that_stops_reading_holds_back_200_mb_at_the_backends() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let mut process = agent(&coordinator, &home, &backend.entry()).start();
    let status = process.status_addr().await;
    let mut session = coordinator.serving("m").await;
    let taken = Arc::new(AtomicU64::new(0));
    let mut offers = Vec::new();
    for _ in 0..8 {
        session.start_job("m").await;
        let mut exchange = backend.request().await;
        exchange.open_stream().await;
        offers.push(tokio::spawn(offer(exchange, 25, Arc::clone(&taken))));
    }
    // It stands still when nothing moves while the agent answers many questions.
    let mut still = 0;
    let mut last = 0;
    let stands_still = async {
        while still < 100 {
            request(status, "GET /healthz", "", "").await;
            let now = taken.load(Ordering::Relaxed);
            still = if now == last && now > 0 { still + 1 } else { 0 };
            last = now;
        }
    };
    within("standstill", stands_still).await;
    assert!(last < 200 * MIB as u64 && offers.iter().all(|offer| !offer.is_finished()), "{last} bytes were taken");
    assert_small(&process);
    session.reset();
    for offer in offers {
        within("end of the backends' connections", offer).await.unwrap();
    }
    assert_small(&process);
}

#[tokio::test]
async fn a_line_of_50_mb_is_passed_on_and_not_kept() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let process = agent(&coordinator, &home, &backend.entry()).start();
    let mut session = coordinator.serving("m").await;
    let id = session.start_job("m").await;
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    tokio::spawn(offer(exchange, 50, Arc::default()));
    let mut chunks = 0;
    let last = loop {
        let Frame::Text(text) = session.frame().await else { panic!("no text") };
        if !text.starts_with(br#"{"type":"job_chunk""#) {
            break text;
        }
        chunks += text.len();
    };
    let error: serde_json::Value = serde_json::from_slice(&last).unwrap();
    assert_eq!((&error["type"], &error["job_id"]), (&"job_error".into(), &id.to_string().into()));
    assert_eq!((&error["error_code"], &error["tokens_emitted"]), (&"internal".into(), &(50 * MIB).into()));
    assert!(chunks > 50 * MIB / 3 * 4);
    assert_small(&process);
}

#[tokio::test]
async fn of_an_error_body_of_80_mb_a_bounded_piece_is_read_and_nothing_is_passed_on() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let process = agent(&coordinator, &home, &backend.entry()).start();
    let mut session = coordinator.serving("m").await;
    let id = session.start_job("m").await;
    let mut exchange = backend.request().await;
    exchange.raw(b"HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let taken = Arc::new(AtomicU64::new(0));
    let offered = tokio::spawn(offer(exchange, 80, Arc::clone(&taken)));
    let (bytes, end) = session.rest(id).await;
    assert!(bytes.is_empty());
    end.assert_code(ErrorCode::Internal);
    within("end of the backend's connection", offered).await.unwrap();
    // The system's buffers of both ends take more than the agent reads.
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken < 40 * MIB as u64, "{taken} bytes were taken");
    assert_small(&process);
}

#[tokio::test]
async fn a_frame_that_announces_a_gigabyte_is_refused_before_its_body() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut process = agent(&coordinator, &home, NOBODY).start();
    let mut session = coordinator.join().await;
    session.settle().await;
    let before = process.memory("VmHWM");
    session.send_raw(&[&[0x81, 127][..], &(1u64 << 30).to_be_bytes(), &[b' '; 100]].concat()).await;
    assert_eq!(session.end().await, End::Close(Some(1009)));
    process.logged("a message over the size limit").await;
    let grown = process.memory("VmHWM") - before;
    assert!(grown < 4 << 10, "{grown} KiB for a header");
    coordinator.join().await.settle().await;
}

#[tokio::test]
async fn fragments_that_add_up_to_too_much_are_refused() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let process = agent(&coordinator, &home, NOBODY).env("OUTPOST_MAX_MESSAGE_SIZE", "1MiB").start();
    let mut session = coordinator.join().await;
    let payload = vec![b' '; MIB / 2];
    let fragment = |opcode: u8| [&[opcode, 127][..], &(payload.len() as u64).to_be_bytes(), &payload].concat();
    session.send_raw(&fragment(1)).await;
    session.send_raw(&fragment(0)).await;
    session.settle().await;
    session.send_raw(&[0, 1]).await;
    assert_eq!(session.end().await, End::Close(Some(1009)));
    assert_small(&process);
}

#[tokio::test]
async fn a_flood_of_pongs_of_a_stranger_does_not_stay_in_a_coordinator() {
    let mut process = Setup::new(&["coordinator", "--listen", "127.0.0.1:0"]).start();
    let addr = process.logged("coordinator listening addr=").await;
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
