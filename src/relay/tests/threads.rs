//! Workers on threads of their own, next to the pump and a peer that reads in pieces.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::connection::{Connection, Deaf, chunk, end, terminal};
use crate::messages::ids::JobId;
use crate::messages::wire::Extensions;
use crate::relay::job_stream::{JobHandle, JobStream};
use crate::transport::websocket::codec::Frame;
use crate::transport::websocket::pump;

/// Workers at once.
const WORKERS: usize = 4;
/// Bytes of one job.
const BYTES: usize = 200_000;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound).unwrap()
    }
}

/// The bytes of a job: no two places look alike.
fn content(job: usize) -> Vec<u8> {
    (0..BYTES).map(|at| (at ^ (at >> 8) ^ (at >> 16) ^ (job * 41)) as u8).collect()
}

/// Appends the content of a job as a backend would send it: in pieces of any length, with pauses.
fn work(stream: &JobStream, handle: JobHandle, bytes: &[u8], numbers: &mut Numbers, is_cancelled: bool) {
    let runtime = runtime();
    let mut left = bytes;
    let cancelled_at = numbers.below(BYTES as u64);
    while !left.is_empty() {
        if is_cancelled && left.len() <= cancelled_at {
            return drop(handle);
        }
        let most = [200, 5_000, 100_000][numbers.below(3)];
        let (mut piece, rest) = left.split_at(left.len().min(1 + numbers.below(most)));
        while !piece.is_empty() {
            match stream.append(piece) {
                0 => runtime.block_on(async { timeout(Duration::from_secs(20), stream.room()).await.unwrap() }),
                taken => piece = &piece[taken..],
            }
        }
        left = rest;
        match numbers.below(4) {
            0 => {}
            1 => {
                stream.flush();
                std::thread::yield_now();
            }
            _ => stream.flush(),
        }
    }
    // The last piece may be the one at which it is cancelled.
    if !is_cancelled {
        assert!(end(stream));
        handle.release();
    }
}

#[test]
fn bytes_of_workers_on_other_threads_arrive_once_and_in_order() {
    let contents: Vec<Vec<u8>> = (0..WORKERS).map(content).collect();
    for seed in 0..6 {
        for capacity in [3_000, 70_000, 1 << 22] {
            let agreed = [Extensions::all(), Extensions::without_resume(), Extensions::NONE][seed as usize % 3];
            let Connection { outbox, line, reader, mut far, mut frames, .. } = Connection::new(capacity, agreed);
            let jobs: Vec<_> = (0..WORKERS).map(|_| outbox.open(JobId::random())).collect();
            let streams: Vec<JobStream> = jobs.iter().map(|(_, stream)| stream.clone()).collect();
            let ids: Vec<JobId> = streams.iter().map(JobStream::job).collect();
            let is_cancelled = |job: usize| job == 3;
            let working = AtomicUsize::new(WORKERS);
            let read = std::thread::scope(|scope| {
                for (job, (handle, stream)) in jobs.into_iter().enumerate() {
                    let (working, content) = (&working, &contents[job]);
                    scope.spawn(move || {
                        let mut numbers = Numbers(seed * 100 + job as u64);
                        work(&stream, handle, content, &mut numbers, is_cancelled(job));
                        working.fetch_sub(1, Ordering::Release);
                    });
                }
                let peer = async {
                    let (mut read, mut received) = (Vec::new(), [0; WORKERS]);
                    while !matches!(read.last(), Some(Frame::Close { .. })) {
                        let more = timeout(Duration::from_secs(20), far.read_buf(frames.space())).await;
                        more.expect("a stream starves").unwrap();
                        let new: Vec<Frame> = std::iter::from_fn(|| frames.pop().unwrap()).collect();
                        // While the worker appends. Without `resume` nothing is left to forget.
                        for (id, bytes) in new.iter().filter_map(chunk) {
                            let job = ids.iter().position(|known| *known == id).unwrap();
                            received[job] += bytes.len() as u64;
                            streams[job].acknowledge(received[job]);
                        }
                        read.extend(new);
                    }
                    drop(far);
                    read
                };
                let close = async {
                    while working.load(Ordering::Acquire) > 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    outbox.close(1000, "").unwrap();
                };
                let mut inbox = Deaf;
                runtime().block_on(async {
                    futures_util::join!(pump::run(reader, &line, &outbox, &mut inbox), peer, close).1
                })
            });
            for (job, stream) in streams.iter().enumerate().filter(|(job, _)| !is_cancelled(*job)) {
                let left = stream.delivery();
                assert_eq!(left.produced() - left.acknowledged(), 0, "seed {seed}, job {job}");
            }
            for (job, (id, content)) in ids.into_iter().zip(&contents).enumerate() {
                let of_job = read.iter().filter_map(chunk).filter(|(of, _)| *of == id);
                let bytes: Vec<u8> = of_job.flat_map(|(_, bytes)| bytes).collect();
                let terminals: Vec<u64> =
                    read.iter().filter_map(terminal).filter(|(of, _)| *of == id).map(|(_, count)| count).collect();
                if is_cancelled(job) {
                    assert!(content.starts_with(&bytes) && terminals.is_empty(), "seed {seed}, job {job}");
                } else {
                    assert!(bytes == *content, "seed {seed}, job {job}: {} bytes", bytes.len());
                    assert_eq!(terminals, [BYTES as u64]);
                    let last = read.iter().rposition(|frame| chunk(frame).is_some_and(|(of, _)| of == id));
                    let end = read.iter().position(|frame| terminal(frame).is_some_and(|(of, _)| of == id));
                    assert!(last < end, "a byte behind the terminal frame");
                }
            }
        }
    }
}
