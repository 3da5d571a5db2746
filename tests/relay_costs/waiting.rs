//! What a backend's stream holds while nothing comes, all in all: its futures too, but for what the job itself has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::future::{Either, LocalBoxFuture};
use futures_util::{FutureExt, StreamExt};
use outpost::internals::HttpBackendFactory;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::testkit::{
    Backend, BackendFactory, BackendKind, BackendRequest, BackendResponse, SendError, client_config,
};
use tokio::sync::mpsc;

/// Streams that share what is there once.
const STREAMS: usize = 200;

/// What a server does once it has read a request, before it goes silent.
#[derive(Clone, Copy)]
enum Answer {
    Nothing,
    /// Sends the head, and chunks of so many bytes, the last of them not whole.
    Chunks(&'static [usize]),
}

/// A backend on a thread of its own, whose memory is not counted, and word of each request that it is done with.
struct Server {
    address: SocketAddr,
    answered: mpsc::Receiver<()>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (done, answered) = mpsc::channel(1);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for _ in 0..=STREAMS {
                let mut stream = listener.accept().unwrap().0;
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n{}") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                if let Answer::Chunks(lengths) = answer {
                    let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n".to_owned();
                    text += "transfer-encoding: chunked\r\n\r\n";
                    lengths.iter().for_each(|length| text += &format!("{length:x}\r\n{}\r\n", "x".repeat(*length)));
                    stream.write_all(&text.as_bytes()[..text.len() - 3]).unwrap();
                }
                held.push(stream);
                let _ = done.blocking_send(());
            }
            let _ = held[0].read(&mut [0]);
        });
        Self { address, answered }
    }
}

/// What a job waits with: for the head, or for more of the body.
type Waiting = Either<LocalBoxFuture<'static, Result<BackendResponse, SendError>>, BackendResponse>;

/// Sends a request and takes all that the server answers.
async fn wait(backend: &dyn Backend, server: &mut Server, answer: Answer) -> Waiting {
    let body = vec![Bytes::from_static(b"{}")];
    let mut sent = backend.send(BackendRequest { job: JobId::random(), endpoint: Endpoint::ChatCompletions, body });
    let Answer::Chunks(lengths) = answer else {
        tokio::select! {
            _ = &mut sent => panic!("there is no answer"),
            answered = server.answered.recv() => answered.unwrap(),
        }
        return Either::Left(sent);
    };
    let mut response = sent.await.unwrap();
    server.answered.recv().await.unwrap();
    // The last byte of the last chunk stays behind.
    let mut left = lengths.iter().sum::<usize>() - 1;
    while left > 0 {
        left -= response.body.next().await.unwrap().unwrap().len();
    }
    assert!(response.body.next().now_or_never().is_none(), "the server is silent");
    Either::Right(response)
}

/// The bytes that each stream adds.
fn held(what: &str, answer: Answer) -> f64 {
    let mut server = Server::start(answer);
    let url = format!("http://{}", server.address).parse().unwrap();
    let factory =
        HttpBackendFactory::new(BackendId::from("b"), BackendKind::GENERIC, &url, None, client_config(None).unwrap());
    let system = actix_rt::System::new();
    let backend: Rc<dyn Backend> = factory.open();
    // The first one also pays for what there is once.
    let first = system.block_on(wait(&*backend, &mut server, answer));
    let mut streams = Vec::with_capacity(STREAMS);
    let info = measure(|| {
        system.block_on(async {
            for _ in 0..STREAMS {
                streams.push(wait(&*backend, &mut server, answer).await);
            }
        });
    });
    drop((first, streams));
    let held = info.bytes_current as f64 / STREAMS as f64;
    println!("a stream that waits {what} holds {held:.0} bytes");
    held
}

#[test]
fn a_stream_that_waits_for_its_first_byte_holds_little() {
    let held = held("for its head", Answer::Nothing);
    assert!(held <= 1_700.0, "{held}");
}

#[test]
fn a_stream_that_waits_for_its_next_event_holds_little() {
    let held = held("for an event", Answer::Chunks(&[120]));
    assert!(held <= 512.0, "{held}");
}

#[test]
fn a_burst_leaves_nothing_behind() {
    let held = held("after a burst", Answer::Chunks(&[30_000, 30_000, 30_000, 1_000, 7]));
    assert!(held <= 512.0, "{held}");
}
