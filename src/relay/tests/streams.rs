//! What becomes of a job's bytes and of its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;

use super::connection::{Connection, Deaf, chunk, end, failed, hold, send_all, terminal};
use crate::messages::ids::JobId;
use crate::messages::wire::{Extension, Extensions, FromAgent, Heartbeat, ResponseHead};
use crate::relay::chunk::MAX_CHUNK;
use crate::relay::job_stream::JobStream;
const GUARANTEED: usize = MAX_CHUNK;
const MOST: usize = 8 * MAX_CHUNK;

use crate::transport::websocket::codec::Frame;
use crate::transport::websocket::pump::{self, PumpEnd};

#[actix_rt::test]
async fn on_an_idle_line_bytes_are_written_at_once_without_the_pump() {
    let mut connection = Connection::new(1 << 20, Extensions::NONE);
    let (_handle, stream) = connection.outbox.open(JobId::random());
    send_all(&stream, b"token");
    let frames = connection.written();
    assert_eq!(frames.iter().map(chunk).collect::<Vec<_>>(), [Some((stream.job(), b"token".to_vec()))]);
}

#[actix_rt::test]
async fn the_last_bytes_and_the_terminal_frame_share_a_write() {
    let mut connection = Connection::new(1 << 20, Extensions::NONE);
    let (handle, stream) = connection.outbox.open(JobId::random());
    assert_eq!(hold(&stream, b"all of it"), 9);
    assert!(end(&stream));
    handle.release();
    let frames = connection.written();
    assert_eq!(terminal(&frames[1]), Some((stream.job(), 9)));
    assert_eq!((frames.len(), connection.writes.load(Ordering::Relaxed)), (2, 1));
}

#[actix_rt::test]
async fn what_the_stream_has_no_room_for_is_written_by_the_pump_in_order() {
    let (connection, handle) = Connection::clogged(Extensions::NONE);
    let stream = handle.stream().clone();
    for piece in ["one ", "two ", "three"] {
        send_all(&stream, piece.as_bytes());
    }
    assert!(end(&stream));
    let frames = connection.pumped().await;
    let text: Vec<u8> = frames.iter().filter_map(chunk).flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(text[30 * 1024..], *b"one two three");
    assert_eq!(terminal(&frames[frames.len() - 2]), Some((stream.job(), 30 * 1024 + 13)));
    handle.release();
}

#[actix_rt::test]
async fn small_frames_that_wait_share_a_write() {
    let (connection, _clog) = Connection::clogged(Extensions::NONE);
    let jobs: Vec<_> = (0..100).map(|_| connection.outbox.open(JobId::random())).collect();
    jobs.iter().for_each(|(_, stream)| send_all(stream, b"token"));
    let writes = Arc::clone(&connection.writes);
    let before = writes.load(Ordering::Relaxed);
    let frames = connection.pumped().await;
    assert_eq!(frames.iter().filter(|frame| chunk(frame).is_some()).count(), 101);
    let writes = writes.load(Ordering::Relaxed) - before;
    assert!(writes < 20, "{writes} writes of 100 frames");
}

#[actix_rt::test]
async fn nothing_is_written_after_a_cancel_nor_after_the_terminal_frame() {
    let (connection, clog) = Connection::clogged(Extensions::NONE);
    let (cancelled, first) = connection.outbox.open(JobId::random());
    let (ended, second) = connection.outbox.open(JobId::random());
    send_all(&first, b"never");
    assert!(first.end(failed(first.job()), Box::new(|| panic!("it is not written"))));
    assert!(!end(&first), "it has ended");
    drop(cancelled);
    assert!(end(&second));
    send_all(&second, b"too late");
    let frames = connection.pumped().await;
    let of = |stream: &JobStream| {
        let jobs = frames.iter().filter_map(|frame| chunk(frame).map(|(job, _)| job).or(terminal(frame).map(|t| t.0)));
        jobs.filter(|job| *job == stream.job()).count()
    };
    assert_eq!((of(&first), of(&second)), (0, 1));
    drop((clog, ended));
}

#[actix_rt::test]
async fn jobs_take_turns() {
    let (connection, _clog) = Connection::clogged(Extensions::NONE);
    let jobs: Vec<_> = (0..3).map(|_| connection.outbox.open(JobId::random())).collect();
    jobs.iter().for_each(|(_, stream)| send_all(stream, &[0; 3 * MAX_CHUNK]));
    let frames = connection.pumped().await;
    let turns: Vec<JobId> = frames.iter().filter_map(chunk).map(|(job, _)| job).skip(1).collect();
    let expected: Vec<JobId> = (0..3).flat_map(|_| jobs.iter().map(|(_, stream)| stream.job())).collect();
    assert_eq!(turns, expected);
}

#[actix_rt::test]
async fn what_is_held_is_bounded_for_each_job_and_for_all_and_each_has_its_part() {
    let (connection, _clog) = Connection::clogged(Extensions::NONE);
    let large = vec![0; 1 << 20];
    let jobs: Vec<_> = (0..100).map(|_| connection.outbox.open(JobId::random())).collect();
    let held: Vec<usize> = jobs.iter().map(|(_, stream)| hold(stream, &large)).collect();
    assert_eq!((held[0], held[99]), (MOST, GUARANTEED));
    assert_eq!(held.iter().sum::<usize>(), 100 * GUARANTEED + (4 << 20));
    assert!(jobs[0].1.room().now_or_never().is_none());
    // Cancelled jobs give back what they held.
    drop(jobs);
    let (_handle, stream) = connection.outbox.open(JobId::random());
    assert_eq!(hold(&stream, &large), MOST);
}

#[actix_rt::test]
async fn a_worker_that_waits_for_room_goes_on_as_bytes_are_written() {
    let connection = Connection::new(4096, Extensions::without_resume());
    let (handle, stream) = connection.outbox.open(JobId::random());
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| n as u8).collect();
    let outbox = connection.outbox.clone();
    let worker = async {
        for piece in bytes.chunks(20_000) {
            let mut rest = piece;
            while !rest.is_empty() {
                match stream.append(rest) {
                    0 => stream.room().await,
                    taken => rest = &rest[taken..],
                }
            }
        }
        assert!(end(&stream));
        outbox.close(1000, "").unwrap();
    };
    let Connection { line, reader, far, mut frames, .. } = connection;
    let mut far = far;
    let peer = async {
        let mut read = Vec::new();
        while !matches!(read.last(), Some(Frame::Close { .. })) {
            far.read_buf(frames.space()).await.unwrap();
            read.extend(std::iter::from_fn(|| frames.pop().unwrap()));
        }
        drop(far);
        read
    };
    let mut inbox = Deaf;
    let (_, (), read) = futures_util::join!(pump::run(reader, &line, &outbox, &mut inbox), worker, peer);
    let came: Vec<u8> = read.iter().filter_map(chunk).flat_map(|(_, bytes)| bytes).collect();
    assert!(came == bytes, "{} bytes of {}", came.len(), bytes.len());
    handle.release();
}

#[actix_rt::test]
async fn a_head_is_sent_with_the_first_bytes_or_alone_where_it_is_needed() {
    let agreed = [Extension::Endpoints].into_iter().collect();
    let mut connection = Connection::new(1 << 20, agreed);
    let (_handle, stream) = connection.outbox.open(JobId::random());
    stream.set_head(ResponseHead::new(404, "application/json"));
    stream.need_head();
    assert!(end(&stream));
    let frames = connection.written();
    let Frame::Text(text) = &frames[0] else { panic!("no text") };
    let Ok(FromAgent::JobChunk(first)) = serde_json::from_slice(text) else { panic!("no chunk") };
    assert_eq!((ResponseHead::of(&first).unwrap().status(), first.data.as_str(), frames.len()), (404, "", 2));
}

#[actix_rt::test]
async fn a_worker_that_waits_is_woken_by_a_cancel_and_by_an_end_from_outside() {
    let connection = Connection::new(1 << 20, Extensions::NONE);
    let (handle, stream) = connection.outbox.open(JobId::random());
    drop(handle);
    stream.stopped().await;
    let (handle, stream) = connection.outbox.open(JobId::random());
    let (ended, ()) = futures_util::join!(async { end(handle.stream()) }, stream.stopped());
    assert!(ended && !end(&stream));
}

#[actix_rt::test]
async fn after_the_end_of_the_connection_nothing_waits_for_it() {
    let (connection, clog) = Connection::clogged(Extensions::NONE);
    let Connection { outbox, line, reader, far, .. } = connection;
    drop(far);
    let ended = pump::run(reader, &line, &outbox, &mut Deaf).await;
    assert!(matches!(ended, PumpEnd::Link(_)));
    let stream = clog.stream().clone();
    send_all(&stream, b"not read");
    assert!(outbox.control(&FromAgent::Heartbeat(Heartbeat::default())).is_err() && outbox.close(1000, "").is_err());
    let weak = stream.downgrade();
    drop((stream, clog));
    assert!(weak.upgrade().is_none(), "the outbox keeps a job that is over");
}
