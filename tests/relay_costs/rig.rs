//! A whole agent on this thread, between a scripted backend and a peer that does as little as it can, so that what is
//! counted is the agent's.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix::Addr;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use outpost::internals::{ActorCount, Coordinator, Events, FrameReader, Parts, Role, SupervisorActor, encode};
use outpost::messages::ids::JobId;
use outpost::messages::wire::{AuthOk, Extensions, FromAgent, FromCoordinator, Limits};
use outpost::testkit::{
    BackendPolicy, Connector, DialError, Frame, Identity, Price, PriceList, RemoteMedia, ScriptedBackend, Settings,
    Upgraded, job_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// Bytes that a direction of the connection holds: more than any test here sends, so that no write is cut.
const CAPACITY: usize = 4 << 20;

/// The agent's end of the connection, which counts writes.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Gives out its one connection.
struct Once(Cell<Option<Counted>>);

impl Connector for Once {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Upgraded, DialError>> {
        let dialled = self.0.take().ok_or(DialError::TimedOut);
        let upgraded = dialled.map(|stream| Upgraded { stream: Box::new(stream), leftover: BytesMut::new() });
        std::future::ready(upgraded).boxed_local()
    }

    fn target(&self) -> &str {
        "coordinator.test:443"
    }
}

/// The agent and its coordinator's end of the connection.
pub struct Rig {
    pub backend: ScriptedBackend,
    stream: DuplexStream,
    frames: FrameReader,
    writes: Arc<AtomicUsize>,
    _agent: Addr<SupervisorActor>,
}

impl Rig {
    /// An agent that offers the model `m` and waits for jobs.
    pub async fn start() -> Self {
        let (near, far) = tokio::io::duplex(CAPACITY);
        let writes = Arc::new(AtomicUsize::new(0));
        let backend = ScriptedBackend::new("box", &["m"]);
        let price = Price { input_per_1m: 1, output_per_1m: 1 };
        let (agent, _) = SupervisorActor::launch(Parts {
            coordinators: vec![Coordinator {
                connector: Rc::new(Once(Cell::new(Some(Counted { stream: near, writes: Arc::clone(&writes) })))),
                identity: Identity::ephemeral().unwrap(),
                enrollment_code: None,
            }],
            sources: vec![Box::new(backend.clone())],
            policy: Rc::new(|_, _| BackendPolicy { local: true, ..BackendPolicy::default() }),
            arbiters: Vec::new(),
            events: Events::new(drop),
            actor_count: ActorCount::default(),
            settings: Settings {
                limits: Limits { max_concurrent_total: 1, max_tokens_per_minute: None, max_message_bytes: None },
                prices: PriceList { default: price, by_model: BTreeMap::new() },
                discovery_interval: Duration::from_secs(3600),
                shutdown_grace: Duration::ZERO,
                max_message: 1 << 20,
                kept_per_job: 1 << 20,
                kept: 64 << 20,
                remote_media: RemoteMedia::Refused,
                requires_auth2: false,
            },
        });
        let frames = FrameReader::new(Role::Server, 1 << 20, BytesMut::new());
        let mut rig = Self { backend, stream: far, frames, writes, _agent: agent };
        rig.send(&FromCoordinator::AuthChallenge {
            nonce: STANDARD.encode(rand::random::<[u8; 32]>()),
            extensions: Extensions::NONE,
        })
        .await;
        rig.until(|message| matches!(message, FromAgent::AuthResponse(_))).await;
        rig.send(&FromCoordinator::AuthOk(AuthOk::default())).await;
        rig.until(|message| matches!(message, FromAgent::Capabilities(_))).await;
        rig
    }

    /// Sends a job.
    pub async fn job(&mut self) -> JobId {
        let job = job_frame("m", "{}");
        let id = job.job_id;
        self.send(&FromCoordinator::Job(job)).await;
        id
    }

    /// Writes of the agent so far.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// Reads once, without a look at what came: all that there is.
    pub async fn read(&mut self) {
        let mut scrap = [0; 1024];
        assert_ne!(self.stream.read(&mut scrap).await.unwrap(), 0, "the agent closed the connection");
    }

    /// Reads up to a message. How many frames it took.
    pub async fn until(&mut self, wanted: impl Fn(&FromAgent) -> bool) -> usize {
        for count in 1.. {
            let Frame::Text(text) = self.next().await else { panic!("no text") };
            if wanted(&serde_json::from_slice(&text).unwrap()) {
                return count;
            }
        }
        unreachable!("the loop has no end of its own")
    }

    async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.frames.pop().unwrap() {
                return frame;
            }
            let read = self.stream.read_buf(self.frames.space()).await.unwrap();
            assert_ne!(read, 0, "the agent closed the connection");
        }
    }

    async fn send(&mut self, message: &FromCoordinator) {
        let mut out = BytesMut::new();
        let text = serde_json::to_vec(message).unwrap();
        encode(&mut out, Role::Server, &Frame::Text(text.into()));
        self.stream.write_all(&out).await.unwrap();
    }
}
