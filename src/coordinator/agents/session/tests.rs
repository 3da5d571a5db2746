use std::cell::Cell;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::SystemTime;

use actix_http::ws::Codec;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};

use super::*;
use crate::config::{CoordinatorConfig, MapEnvironment};
use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::agents::link::{RunJob, SessionLink};
use crate::coordinator::fleet::response_channel::{ResponsePart, response_channel};
use crate::coordinator::fleet::roster::AgentInfo;
use crate::messages::ids::JobId;

const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
/// A text frame that is not an `auth_response`.
const TEXT: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'x'];
/// The last fragment of a message without a first one. The codec consumes it and reports an error.
const STRAY_FRAGMENT: [u8; 6] = [0x80, 0x80, 0, 0, 0, 0];
/// A frame with reserved bits. The codec reports an error and consumes nothing.
const BAD_HEADER: [u8; 6] = [0xf1, 0x80, 1, 2, 3, 4];

/// Bytes of pongs in one read of the socket.
const PIECE: usize = 96 << 10;
/// Reads that are ready at every poll of the socket.
const AT_ONCE: usize = 8;

/// A socket that returns some bytes first, and then an endless number of pongs.
struct Socket {
    first: Vec<Bytes>,
    pongs: Bytes,
    left: usize,
    taken: Rc<Cell<usize>>,
}

impl Stream for Socket {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let piece = match self.first.pop() {
            Some(piece) => piece,
            None if self.left == 0 => {
                self.left = AT_ONCE;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => {
                self.left -= 1;
                self.pongs.clone()
            }
        };
        self.taken.set(self.taken.get() + piece.len());
        Poll::Ready(Some(Ok(piece)))
    }
}

#[derive(Default)]
struct CountsWakes(AtomicUsize);

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A session on such a socket.
struct Rig {
    output: Pin<Box<dyn Stream<Item = Result<Bytes, Error>>>>,
    taken: Rc<Cell<usize>>,
    wakes: Arc<CountsWakes>,
}

impl Rig {
    fn new(stage: fn(&Session) -> Option<Stage>, first: &[&[u8]]) -> Self {
        let meter = Meter::new(MAX_HANDSHAKE_FRAME);
        let mut session = session(meter.clone());
        if let Some(stage) = stage(&session) {
            session.stage = stage;
        }
        let taken = Rc::new(Cell::new(0));
        let first = first.iter().rev().map(|bytes| Bytes::copy_from_slice(bytes)).collect();
        let pongs = PONG.repeat(PIECE / PONG.len()).into();
        let socket = Socket { first, pongs, left: AT_ONCE, taken: taken.clone() };
        let codec = Codec::new().max_size(1 << 20);
        let output = Box::pin(WebsocketContext::with_codec(session, Metered::new(socket, meter), codec));
        Self { output, taken, wakes: Arc::default() }
    }

    fn poll(&mut self) -> Poll<Option<Result<Bytes, Error>>> {
        let waker = Waker::from(self.wakes.clone());
        self.output.as_mut().poll_next(&mut TaskContext::from_waker(&waker))
    }

    /// Polls until there is no output and no wakeup. `true` if the output has ended.
    fn settles(&mut self, most_polls: usize) -> bool {
        for _ in 0..most_polls {
            let wakes = self.wakes.0.load(Ordering::Relaxed);
            match self.poll() {
                Poll::Ready(None) => return true,
                Poll::Pending if self.wakes.0.load(Ordering::Relaxed) == wakes => return false,
                _ => {}
            }
        }
        panic!("still active after {most_polls} polls");
    }
}

fn session(meter: Rc<Meter>) -> Session {
    let state = CoordinatorState::new(CoordinatorConfig::from_env(&MapEnvironment::default()).unwrap().0, Vec::new());
    let permit = state.begin_handshake().unwrap();
    Session::new(state, permit, meter, None, Peer(None))
}

/// The stage of an agent that has proved its key.
fn admitted(session: &Session) -> Option<Stage> {
    let key = AgentKey([1; 32]);
    let provider = key.provider_id().unwrap();
    let (version, extensions, since) = (String::new(), Extensions::NONE, SystemTime::now());
    let agent = AgentInfo { key, provider: provider.clone(), version, extensions, since, link: () };
    // The roster sends nothing here.
    let recipient = Sink.start().recipient();
    let link = |jobs| SessionLink::new(recipient, Arc::default(), jobs);
    let opened = session.state.open_session(agent, None, link);
    let admitted = Admitted { id: opened.id, key, provider, agreed: extensions, jobs: opened.jobs };
    Some(Stage::Admitted(Rc::new(admitted)))
}

struct Sink;

impl Actor for Sink {
    type Context = actix::Context<Self>;
}

impl Handler<SessionCommand> for Sink {
    type Result = ();

    fn handle(&mut self, _: SessionCommand, _: &mut Self::Context) {}
}

#[actix_rt::test]
async fn a_flood_of_small_frames_is_read_no_faster_than_it_is_handled() {
    let stages: [fn(&Session) -> Option<Stage>; 3] = [|_| None, admitted, |_| Some(Stage::Closing)];
    for stage in stages {
        let mut rig = Rig::new(stage, &[]);
        let polls = 40;
        for _ in 0..polls {
            assert!(!matches!(rig.poll(), Poll::Ready(None)));
        }
        // A poll handles 16 frames. In addition, the bytes of one read wait.
        assert!(rig.taken.get() <= PIECE + polls * 2 * 16 * PONG.len(), "{} bytes were read", rig.taken.get());
    }
}

#[actix_rt::test]
async fn after_a_bad_header_the_session_reads_nothing_and_does_not_spin() {
    for bad in [&BAD_HEADER[..], &[0x81, 0x01, b'x'], &[0x83, 0x80, 1, 2, 3, 4]] {
        let mut rig = Rig::new(|_| None, &[bad]);
        assert!(!rig.settles(10), "the close was not written yet");
        assert_eq!(rig.taken.get(), bad.len());
    }
}

#[actix_rt::test]
async fn an_error_while_the_session_closes_ends_it() {
    let mut rig = Rig::new(|_| None, &[&TEXT, &STRAY_FRAGMENT]);
    assert!(rig.settles(10));
    assert!(rig.taken.get() <= TEXT.len() + STRAY_FRAGMENT.len());
}

#[actix_rt::test]
async fn a_connection_that_is_reset_gets_no_close_for_a_violation() {
    let meter = Meter::new(MAX_HANDSHAKE_FRAME);
    let reset = PayloadError::Incomplete(Some(ErrorKind::ConnectionReset.into()));
    let socket = futures_util::stream::iter([Ok(Bytes::from_static(&PONG)), Err(reset)]);
    let session = session(meter.clone());
    let output = WebsocketContext::with_codec(session, Metered::new(socket, meter), Codec::new());
    let frames: Vec<Bytes> = output.try_collect().await.unwrap();
    let frames = frames.concat();
    let length = usize::from(u16::from_be_bytes([frames[2], frames[3]]));
    assert_eq!((&frames[..2], frames.len()), (&[0x81, 126][..], 4 + length), "the challenge, and nothing after it");
}

#[actix_rt::test]
async fn a_job_that_reaches_a_closing_session_was_not_sent() {
    for (is_admitted, end) in [(false, ResponseEnd::NotSent), (true, ResponseEnd::AgentLost)] {
        let mut session = session(Meter::new(0));
        session.stage = admitted(&session).filter(|_| is_admitted).unwrap_or(Stage::Closing);
        let (addr, output) = WebsocketContext::create_with_addr(session, futures_util::stream::pending());
        let (sender, mut receiver) = response_channel(1);
        addr.do_send(SessionCommand::Run(RunJob { id: JobId::random(), frame: "{}".into(), sender }));
        let mut output = Box::pin(output);
        let _ = output.as_mut().poll_next(&mut TaskContext::from_waker(Waker::noop()));
        drop(output);
        assert_eq!(receiver.next().await, ResponsePart::End(end));
    }
}
