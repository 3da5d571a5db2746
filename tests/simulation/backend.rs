//! An inference server that answers orders, and breaks its connections when the faults want it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::BackendId;
use outpost::testkit::{
    Backend, BackendFactory, BackendKind, BackendReport, BackendRequest, BackendResponse, BodyError, ModelReport,
    ProbeError, ProbeResult, SendError, Source,
};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::order::{Fault, MODEL, Order};

/// What backends did with the jobs.
#[derive(Default)]
pub(crate) struct Journal {
    /// How often each try of a job was begun.
    pub(crate) begun: HashMap<(u64, u32), u32>,
    /// Jobs that a backend has failed.
    pub(crate) failed: HashSet<u64>,
}

/// A backend. Clones are the same one.
#[derive(Clone)]
pub(crate) struct SimBackend(Arc<Client>);

/// What reaches it.
#[derive(Clone)]
struct Client(Arc<Shared>);

struct Shared {
    id: BackendId,
    slots: u32,
    journal: Arc<Mutex<Journal>>,
    open: AtomicUsize,
    /// While it is down it takes no connection. A change breaks all that are open.
    down: watch::Sender<bool>,
}

impl SimBackend {
    pub(crate) fn new(name: String, slots: u32, journal: &Arc<Mutex<Journal>>) -> Self {
        let (id, journal) = (BackendId::from(name), Arc::clone(journal));
        let shared = Shared { id, slots, journal, open: AtomicUsize::new(0), down: watch::Sender::new(false) };
        Self(Arc::new(Client(Arc::new(shared))))
    }

    /// Stops it, which breaks its connections, or starts it.
    pub(crate) fn set_down(&self, down: bool) {
        self.0.0.down.send_replace(down);
    }

    pub(crate) fn open(&self) -> usize {
        self.0.0.open.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("no panic under the lock")
    }
}

impl Source for SimBackend {
    fn name(&self) -> &str {
        self.0.0.id.as_str()
    }

    fn probe(&self) -> LocalBoxFuture<'static, Result<ProbeResult, ProbeError>> {
        let model = ModelReport {
            id: MODEL.into(),
            context_window: None,
            endpoints: [Endpoint::ChatCompletions].into_iter().collect(),
            price: None,
        };
        let report = BackendReport {
            kind: BackendKind::Vllm,
            models: vec![model],
            slots: Some(self.0.0.slots),
            active_requests: None,
            cloud_models: 0,
        };
        let found = ProbeResult { factory: self.0.clone(), report };
        let is_down = *self.0.0.down.borrow();
        Box::pin(std::future::ready(if is_down { Err(ProbeError::Unreachable) } else { Ok(found) }))
    }
}

impl BackendFactory for Client {
    fn id(&self) -> &BackendId {
        &self.0.id
    }

    fn kind(&self) -> BackendKind {
        BackendKind::Vllm
    }

    fn open(&self) -> Rc<dyn Backend> {
        Rc::new(self.clone())
    }
}

/// A request at work.
struct Work {
    order: Order,
    backend: Arc<Shared>,
    down: watch::Receiver<bool>,
    fault: Option<Fault>,
    next: u64,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.backend.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Work {
    fn begin(order: Order, backend: &Arc<Shared>) -> Self {
        backend.open.fetch_add(1, Ordering::Relaxed);
        let mut journal = backend.journal();
        *journal.begun.entry((order.job, order.attempt)).or_default() += 1;
        // Its fault comes once.
        let fault = order.fault.filter(|_| !journal.failed.contains(&order.job));
        if fault.is_some() {
            journal.failed.insert(order.job);
        }
        drop(journal);
        let mut down = backend.down.subscribe();
        down.mark_unchanged();
        Self { order, backend: Arc::clone(backend), down, fault, next: 0 }
    }

    fn fail(&self) {
        self.backend.journal().failed.insert(self.order.job);
    }

    /// Waits for so long. Fails if the backend goes down.
    async fn work(&mut self, time: Duration) -> Result<(), BodyError> {
        tokio::select! {
            biased;
            _ = self.down.changed() => {
                self.fail();
                Err(BodyError::Broken)
            }
            () = sleep(time) => Ok(()),
        }
    }

    async fn event(mut self) -> Option<(Result<Bytes, BodyError>, Option<Self>)> {
        let at_fault = self.next == self.order.events / 2;
        match self.fault {
            Some(Fault::BreaksOff) if at_fault => return Some((Err(BodyError::Broken), None)),
            Some(Fault::Stalls) if at_fault => {
                let _ = self.work(Duration::from_secs(1_000_000)).await;
                return Some((Err(BodyError::Broken), None));
            }
            _ => {}
        }
        if let Err(broken) = self.work(Duration::from_millis(self.order.gap)).await {
            return Some((Err(broken), None));
        }
        let event = self.order.event(self.next);
        self.next += 1;
        let rest = (self.next <= self.order.events).then_some(self);
        Some((Ok(event), rest))
    }
}

impl Backend for Client {
    fn send(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<BackendResponse, SendError>> {
        let backend = Arc::clone(&self.0);
        Box::pin(async move {
            let (order, streams) = Order::of(&request.body.concat());
            if *backend.down.borrow() {
                backend.journal().failed.insert(order.job);
                return Err(SendError::Unreachable);
            }
            let mut work = Work::begin(order, &backend);
            let gap = Duration::from_millis(work.order.gap);
            work.work(gap).await.map_err(|_| SendError::Broke)?;
            let response = |status, content_type: &str, body| BackendResponse {
                status,
                content_type: content_type.to_owned(),
                body,
            };
            let once = |body: String| -> stream::LocalBoxStream<'static, _> {
                Box::pin(stream::once(std::future::ready(Ok(Bytes::from(body)))))
            };
            match work.fault {
                Some(Fault::BreaksAtOnce) => return Err(SendError::Broke),
                Some(Fault::Status(status)) => {
                    return Ok(response(status, "application/json", once(r#"{"error":{"message":"x"}}"#.to_owned())));
                }
                _ => {}
            }
            if streams {
                let events = stream::unfold(Some(work), |work| async { work?.event().await });
                return Ok(response(200, "text/event-stream", Box::pin(events)));
            }
            work.work(gap * u32::try_from(work.order.events).expect("few events"))
                .await
                .map_err(|_| SendError::Broke)?;
            Ok(response(200, "application/json", once(work.order.whole().to_string())))
        })
    }
}
