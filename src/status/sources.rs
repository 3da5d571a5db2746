//! What the status server shows.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::Status;
use super::order::Control;
use super::state::State;
use crate::core::scheduling::router::RouterView;
use crate::telemetry::Snapshot;

/// How long a request waits for the router.
const VIEW_LIMIT: Duration = Duration::from_secs(1);

/// Asks the router for its state. There is none while the router is being replaced.
pub(crate) type ViewSource = Arc<dyn Fn() -> LocalBoxFuture<'static, Option<RouterView>> + Send + Sync>;

/// What is shown.
pub(super) struct Sources {
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) view: ViewSource,
    /// The file of the ledger, if there is one.
    pub(super) ledger: Option<PathBuf>,
    /// Who carries out orders, if they are taken.
    pub(super) control: Option<Control>,
    /// Pages that are open.
    pub(super) pages: Arc<AtomicUsize>,
}

impl Sources {
    /// A copy, so that a slow client does not hold up events.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    pub(super) async fn view(&self) -> Option<RouterView> {
        timeout(VIEW_LIMIT, (self.view)()).await.ok().flatten()
    }

    /// The whole state.
    pub(super) async fn status(&self) -> Status<RouterView> {
        let (snapshot, router) = (self.snapshot(), self.view().await);
        let state = Some(State::of(&snapshot, router.as_ref(), SystemTime::now()));
        Status { snapshot, state, router }
    }
}
