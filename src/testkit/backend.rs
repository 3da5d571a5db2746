//! The scripted backend: its offer can be changed while the agent runs, and each request gets the reply that the test
//! wrote for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::reply::Reply;
use super::request::{Request, Running};
use super::within::within;
use crate::backends::{Backend, BackendFactory, BackendRequest, BackendResponse, ProbeResult, SendError, Source};
use crate::core::formats::key_trace::KeyTrace;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ModelReport, ProbeError};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{BackendId, ModelId};
use crate::messages::secret::Secret;

/// What a probe of the backend finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// What it offers.
    Healthy,
    /// An error.
    Failing(ProbeError),
    /// Nothing: the probe gets no response.
    Hanging,
    /// A bug in the probe itself.
    Panicking,
    /// The same, once.
    PanickingOnce,
}

/// A scripted inference server. Clones are the same backend.
#[derive(Clone)]
pub struct ScriptedBackend(pub(super) Arc<Shared>);

pub(super) struct Shared {
    id: BackendId,
    panic_at_name: AtomicBool,
    state: Mutex<State>,
    open: Arc<AtomicUsize>,
    probes: watch::Sender<usize>,
    requests: watch::Sender<usize>,
    pub(super) listening: Mutex<Listening>,
}

/// Where a backend listens, and the task that takes its connections, which ends with the backend.
#[derive(Default)]
pub(super) struct Listening {
    pub(super) addr: Option<SocketAddr>,
    pub(super) accepting: JoinSet<()>,
}

struct State {
    health: Health,
    report: BackendReport,
    factory: Arc<dyn BackendFactory>,
    script: VecDeque<Reply>,
    otherwise: Option<Reply>,
    key_trace: Option<Arc<KeyTrace>>,
    requests: Vec<Request>,
    /// Requests that the test has not taken yet.
    news: VecDeque<Request>,
    peak: usize,
}

impl ScriptedBackend {
    /// A healthy backend of that name with these models, of kind `openai`, that has every endpoint and does not
    /// report its slots. Without a script it answers each request with a short complete response.
    pub fn new(name: &str, models: &[&str]) -> Self {
        let id = BackendId::from(name);
        let (kind, models) = (BackendKind::GENERIC, reports(models));
        let report = BackendReport { kind, models, slots: None, active_requests: None, cloud_models: 0 };
        Self(Arc::new_cyclic(|shared| {
            let factory = Arc::new(ScriptedFactory { id: id.clone(), backend: shared.clone() });
            let state = State {
                health: Health::Healthy,
                report,
                factory,
                script: VecDeque::new(),
                otherwise: None,
                key_trace: None,
                requests: Vec::new(),
                news: VecDeque::new(),
                peak: 0,
            };
            let (open, probes, requests) = (Arc::default(), watch::Sender::new(0), watch::Sender::new(0));
            let panic_at_name = AtomicBool::new(false);
            let (state, listening) = (Mutex::new(state), Mutex::default());
            Shared { id, panic_at_name, state, open, probes, requests, listening }
        }))
    }

    /// Changes what a probe finds.
    pub fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// Changes the models.
    pub fn set_models(&self, models: &[&str]) {
        self.set_report(|report| report.models = reports(models));
    }

    /// Has the agent send this API key.
    pub fn set_key(&self, key: &str) {
        self.state().key_trace = KeyTrace::of(&Secret::new(key)).map(Arc::new);
    }

    /// Changes anything of what it reports.
    pub fn set_report(&self, change: impl FnOnce(&mut BackendReport)) {
        change(&mut self.state().report);
    }

    /// The next actor that asks for its name panics. While nothing is probed or dispatched, that is its pool as a job ends.
    pub fn panic_at_name(&self) {
        self.0.panic_at_name.store(true, Ordering::Release);
    }

    /// Puts another server in its place, of the same name and reports.
    pub fn replace_server(&self) {
        let factory = ScriptedFactory { id: self.0.id.clone(), backend: Arc::downgrade(&self.0) };
        self.state().factory = Arc::new(factory);
    }

    /// The next requests get these replies, in this order.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state().script.extend(replies);
    }

    /// Every request without a reply of its own gets this one.
    pub fn reply_always(&self, reply: Reply) {
        self.state().otherwise = Some(reply);
    }

    /// The next request that was not taken yet. Waits for one.
    pub async fn request(&self) -> Request {
        let mut count = self.0.requests.subscribe();
        within("a request at the backend", async {
            loop {
                if let Some(request) = self.state().news.pop_front() {
                    return request;
                }
                // The sender lives as long as the backend.
                let _ = count.changed().await;
            }
        })
        .await
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Whether no request has come that was not taken by [`ScriptedBackend::request`].
    pub fn is_idle(&self) -> bool {
        self.state().news.is_empty()
    }

    /// Requests that are open now.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Acquire)
    }

    /// The most requests that were open at once.
    pub fn peak(&self) -> usize {
        self.state().peak
    }

    /// How often it was probed.
    pub fn probes(&self) -> usize {
        *self.0.probes.borrow()
    }

    /// Waits until it has been probed so often.
    pub async fn probed(&self, times: usize) {
        let mut probes = self.0.probes.subscribe();
        // The sender lives as long as the backend.
        let _ = within("a probe of the backend", probes.wait_for(|probes| *probes >= times)).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }
}

fn reports(models: &[&str]) -> Vec<ModelReport> {
    let report = |model: &&str| ModelReport {
        id: ModelId::from(*model),
        context_window: None,
        endpoints: Endpoint::ALL.into_iter().collect(),
        price: None,
    };
    models.iter().map(report).collect()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic that a test asked for happens without the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request and takes the reply that is written for it. `head` is empty in memory.
    pub(super) fn take(&self, endpoint: Endpoint, head: &str, body: Bytes) -> (Running, Reply) {
        let (running, request) = Running::start(endpoint, head, body, &self.open);
        let mut state = self.state();
        state.peak = state.peak.max(self.open.load(Ordering::Acquire));
        state.requests.push(request.clone());
        state.news.push_back(request);
        let reply = state.script.pop_front().or_else(|| state.otherwise.clone());
        drop(state);
        self.requests.send_modify(|count| *count += 1);
        (running, reply.unwrap_or_else(|| Reply::saying(endpoint, "hello")))
    }
}

impl Shared {
    /// Counts a probe, and finds what the test set.
    pub(super) async fn probe(&self) -> Result<ProbeResult, ProbeError> {
        self.probes.send_modify(|probes| *probes += 1);
        let health = self.state().health.clone();
        match health {
            Health::Healthy => {
                let state = self.state();
                Ok(ProbeResult { factory: Arc::clone(&state.factory), report: state.report.clone() })
            }
            Health::Failing(error) => Err(error),
            Health::Hanging => std::future::pending().await,
            Health::PanickingOnce => {
                self.state().health = Health::Healthy;
                panic!("the probe panics once, as the test wants it")
            }
            Health::Panicking => panic!("the probe panics, as the test wants it"),
        }
    }

    /// Whether a model of the report has this endpoint.
    pub(super) fn has(&self, endpoint: Endpoint) -> bool {
        self.state().report.models.iter().any(|model| model.endpoints.contains(endpoint))
    }
}

impl Source for ScriptedBackend {
    fn name(&self) -> &str {
        self.0.id.as_str()
    }

    fn probe(&self) -> LocalBoxFuture<'static, Result<ProbeResult, ProbeError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.probe().await })
    }

    fn load(&self) -> LocalBoxFuture<'static, Option<u32>> {
        let active = self.state().report.active_requests;
        Box::pin(std::future::ready(active))
    }
}

/// Makes clients of a scripted backend.
struct ScriptedFactory {
    id: BackendId,
    backend: std::sync::Weak<Shared>,
}

impl BackendFactory for ScriptedFactory {
    fn id(&self) -> &BackendId {
        let sprung = self.backend.upgrade().is_some_and(|shared| shared.panic_at_name.swap(false, Ordering::AcqRel));
        assert!(!sprung, "the caller panics as it reads the backend's name, as the test wants it");
        &self.id
    }

    /// The one that was reported when its workers' pool was set up.
    fn kind(&self) -> BackendKind {
        self.backend.upgrade().map_or(BackendKind::GENERIC, |shared| shared.state().report.kind)
    }

    fn open(&self) -> Rc<dyn Backend> {
        Rc::new(ScriptedClient(std::sync::Weak::clone(&self.backend)))
    }
}

struct ScriptedClient(std::sync::Weak<Shared>);

impl Backend for ScriptedClient {
    fn key_trace(&self) -> Option<Arc<KeyTrace>> {
        self.0.upgrade().and_then(|shared| shared.state().key_trace.clone())
    }

    fn send(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<BackendResponse, SendError>> {
        let backend = self.0.clone();
        Box::pin(async move {
            // The test has dropped its backend.
            let shared = backend.upgrade().ok_or(SendError::Unreachable)?;
            let (running, reply) = shared.take(request.endpoint, "", request.body.concat().into());
            running.answer(reply).await
        })
    }
}
