//! What the relay path computes, each part alone: frames out, the watch over a response, jobs in, the ledger, frames in.
//!
//! `cargo bench --bench pure [-- FILTER]`

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use outpost::internals::{
    Allowance, FrameReader, Ledger, Link, Outbox, RequestPolicy, ResponseScan, Role, Ticket, backend_body, encode,
};
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, Generation, JobId, ModelId, SessionId};
use outpost::messages::wire::{Extensions, FromCoordinator};
use outpost::testkit::{BackendKind, Frame, RemoteMedia, Upgraded};

fn main() {
    divan::Divan::default()
        .min_time(Duration::from_millis(300))
        .max_time(Duration::from_secs(1))
        .config_with_args()
        .main();
}

/// A piece of a response becomes the masked frame that is written, to a stream that takes everything.
#[divan::bench(args = [120, 4 * 1024, 32 * 1024], sample_size = 64)]
fn chunk_to_frame(bencher: Bencher<'_, '_>, len: usize) {
    let stream = Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink()));
    let link = Link::new(Upgraded { stream, leftover: BytesMut::new() }, Role::Client, 1 << 16);
    let (_reader, line) = link.split();
    let outbox =
        Outbox::new(Generation::numbered(1), Extensions::NONE, line, &Allowance::of_sessions(1 << 20, 64 << 20));
    let (_handle, stream) = outbox.open(JobId::random());
    let bytes = vec![b'x'; len];
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        assert_eq!(stream.append(black_box(&bytes)), len);
        stream.flush();
    });
}

mod scan {
    use super::*;

    /// An event of OpenAI's format, so many bytes long.
    fn event(len: usize) -> String {
        let (head, tail) = (r#"data: {"choices":[{"index":0,"delta":{"content":""#, "\"}}]}\n\n");
        format!("{head}{}{tail}", "x".repeat(len - head.len() - tail.len()))
    }

    fn watch(bencher: Bencher<'_, '_>, endpoint: Endpoint, pieces: &[&[u8]]) {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            let mut scan = ResponseScan::new(endpoint);
            for piece in pieces {
                scan.feed(black_box(piece));
            }
            scan.finish()
        });
    }

    #[divan::bench]
    fn small_events_in_one_piece(bencher: Bencher<'_, '_>) {
        let body = event(120).repeat(64 * 1024 / 120);
        watch(bencher, Endpoint::ChatCompletions, &[body.as_bytes()]);
    }

    #[divan::bench]
    fn small_events_one_by_one(bencher: Bencher<'_, '_>) {
        let body = event(120).repeat(64 * 1024 / 120);
        watch(bencher, Endpoint::ChatCompletions, &body.as_bytes().chunks(120).collect::<Vec<_>>());
    }

    #[divan::bench]
    fn large_events_cut_anywhere(bencher: Bencher<'_, '_>) {
        let body = event(16_000).repeat(64);
        watch(bencher, Endpoint::ChatCompletions, &body.as_bytes().chunks(10_000).collect::<Vec<_>>());
    }

    #[divan::bench]
    fn recorded_openai(bencher: Bencher<'_, '_>) {
        recorded(
            bencher,
            Endpoint::ChatCompletions,
            include_bytes!("../tests/transcripts/llama-server-b11549/chat_stream_usage.http"),
        );
    }

    #[divan::bench]
    fn recorded_anthropic(bencher: Bencher<'_, '_>) {
        recorded(
            bencher,
            Endpoint::Messages,
            include_bytes!("../tests/transcripts/llama-server-b11549/messages_stream.http"),
        );
    }

    fn recorded(bencher: Bencher<'_, '_>, endpoint: Endpoint, response: &[u8]) {
        let head = memchr::memmem::find(response, b"\r\n\r\n").unwrap();
        watch(bencher, endpoint, &[&response[head + 4..]]);
    }
}

mod job {
    use super::*;

    /// A frame with a job whose prompt makes it about so long: lines of 80 characters, a quote in every second one.
    fn frame(len: usize) -> Bytes {
        let line = "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor i";
        let mut prompt = String::new();
        while prompt.len() < len {
            prompt.push_str(line);
            prompt.push('\n');
            prompt.push_str(&line.replace("dolor", "\"dolor\""));
            prompt.push('\n');
        }
        let prompt = serde_json::to_string(&prompt[..len]).unwrap();
        let request = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{prompt}}}],"max_tokens":64}}"#);
        let id = JobId::random();
        format!(r#"{{"type":"job","job_id":"{id}","model_id":"m","deadline_ms":60000,"request":{request}}}"#).into()
    }

    #[divan::bench(args = [2_000, 8_000_000])]
    fn parse(bencher: Bencher<'_, '_>, len: usize) {
        let frame = frame(len);
        bencher.counter(BytesCount::new(frame.len())).bench_local(|| FromCoordinator::parse(black_box(&frame)));
    }

    #[divan::bench(args = [2_000, 8_000_000])]
    fn body(bencher: Bencher<'_, '_>, len: usize) {
        let Ok(FromCoordinator::Job(job)) = FromCoordinator::parse(&frame(len)) else { panic!("the frame is no job") };
        let model = ModelId::from("m");
        let policy = RequestPolicy::new(BackendKind::OpenAi, RemoteMedia::Refused);
        let endpoint = Endpoint::ChatCompletions;
        let body = || {
            let request = black_box(&job.request);
            assert!(policy.check(request, &job.members, endpoint).is_ok());
            backend_body(request, &job.members, &model, endpoint, &policy)
        };
        bencher.counter(BytesCount::new(job.request.len())).bench_local(body);
    }
}

/// A job is admitted and the oldest one ends, with so many in flight.
#[divan::bench(args = [8, 4096], sample_size = 64)]
fn ledger(bencher: Bencher<'_, '_>, in_flight: u32) {
    let backend = BackendId::from("b");
    let mut ledger = Ledger::new(in_flight);
    let mut ids =
        std::iter::repeat_with(JobId::random).take(2 * in_flight as usize).collect::<Vec<_>>().into_iter().cycle();
    let mut admit = move |ledger: &mut Ledger<()>| {
        let ticket = ledger.admit(ids.next().unwrap(), SessionId(Generation::numbered(1)), ()).unwrap();
        ledger.place(ticket, &backend, in_flight).unwrap();
        ticket
    };
    for _ in 1..in_flight {
        admit(&mut ledger);
    }
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let newest = admit(&mut ledger);
        ledger.end(Ticket(newest.0 - u64::from(in_flight - 1))).unwrap();
    });
}

mod read {
    use super::*;

    /// Gives a reader what the network would, in pieces, and counts the frames that come out.
    fn frames(stream: &[u8], at_once: usize) -> usize {
        let mut reader = FrameReader::new(Role::Client, 64 << 20, BytesMut::new());
        let mut frames = 0;
        for piece in stream.chunks(at_once) {
            reader.space().extend_from_slice(piece);
            while reader.pop().unwrap().is_some() {
                frames += 1;
            }
        }
        frames
    }

    fn stream(frames: usize, len: usize) -> BytesMut {
        let mut stream = BytesMut::new();
        for _ in 0..frames {
            encode(&mut stream, Role::Server, &Frame::Text(vec![b'x'; len].into()));
        }
        stream
    }

    #[divan::bench]
    fn small_frames(bencher: Bencher<'_, '_>) {
        let stream = stream(1_000, 200);
        let bencher = bencher.counter(BytesCount::new(stream.len())).counter(ItemsCount::new(1_000_usize));
        bencher.bench_local(|| assert_eq!(frames(black_box(&stream), 16 * 1024), 1_000));
    }

    #[divan::bench]
    fn one_large_frame(bencher: Bencher<'_, '_>) {
        let stream = stream(1, 8_000_000);
        let bencher = bencher.counter(BytesCount::new(stream.len()));
        bencher.bench_local(|| assert_eq!(frames(black_box(&stream), 64 * 1024), 1));
    }
}
