//! A whole agent: its actors, its status page, its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::{Addr, Arbiter};
use tokio::sync::{oneshot, watch};

use super::exit::ExitStatus;
use super::limits::{TooFewFiles, raise_open_files};
use super::pause::PauseSwitch;
use super::signals::Signals;
use super::wiring;
use crate::accounts::{self, JobRecord, Ledger};
use crate::actors::{ActorCount, Exit, GetRouterView, Parts, SupervisorActor};
use crate::config::AgentConfig;
use crate::identity::{Identity, IdentityError, Origin, beside};
use crate::messages::lifecycle::Drain;
use crate::status::{Control, Order, StatusError, StatusServer, ViewSource, create_token};
use crate::telemetry::{Event, Events, Snapshot};
use crate::transport::tls::{TlsError, client_config};

/// How long the end waits for the disk of the ledger.
const LEDGER_LIMIT: Duration = Duration::from_secs(2);
/// The most arbiters that jobs are spread over.
const MAX_ARBITERS: usize = 4;

/// One core is left to the arbiter of the connection: a thread more than cores costs a wake-up for each chunk.
fn data_arbiters(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, MAX_ARBITERS)
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The key can't be used.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The certificates can't be used.
    #[error("OUTPOST_CA_FILE: {0}")]
    Tls(#[from] TlsError),
    /// The system allows too few open files.
    #[error("{0}")]
    Files(#[from] TooFewFiles),
    /// The status page has no address.
    #[error("{0}")]
    Status(#[from] StatusError),
    /// The system refuses signals or threads.
    #[error("the system refuses what an agent needs: {0}")]
    System(#[from] std::io::Error),
}

impl StartError {
    /// What the process ends with.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Identity(_) => ExitStatus::Identity,
            Self::Tls(_) | Self::Files(_) => ExitStatus::Configuration,
            Self::Status(_) | Self::System(_) => ExitStatus::Failure,
        }
    }
}

/// A running agent.
pub(crate) struct Agent {
    supervisor: Addr<SupervisorActor>,
    exit: oneshot::Receiver<Exit>,
    snapshot: watch::Receiver<Snapshot>,
    events: Events,
    /// Where ended jobs are recorded.
    ledger: Option<Ledger>,
    /// Where jobs are worked.
    arbiters: Vec<Arbiter>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

impl Agent {
    /// Starts an agent on the current actix system.
    pub(crate) fn start(config: &AgentConfig, identity: Identity) -> Result<Self, StartError> {
        raise_open_files(config.max_concurrent)?;
        let tls = client_config(config.ca_file.as_deref())?;
        let start = Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pubkey: identity.pubkey_base64(),
            provider_id: identity.provider_id().map(|id| id.to_string()),
            ..Snapshot::default()
        };
        let (board, snapshot) = watch::channel(start);
        let (ledger, keeper) =
            config.ledger.as_ref().map(|at| accounts::ledger(at.path.clone(), wiring::ledger_limits(at))).unzip();
        let rows = ledger.clone().map(|ledger| (ledger, wiring::coordinator_names(config)));
        let events = Events::new(move |event| {
            let now = SystemTime::now();
            if let (Event::JobEnded(ended), Some((ledger, coordinators))) = (&event, &rows) {
                let coordinator = coordinators.get(usize::from(ended.coordinator.0)).cloned().unwrap_or_default();
                ledger.record(JobRecord::new(ended, coordinator, now));
            }
            board.send_modify(|state| event.apply(state, now));
        });
        keeper.map(|keeper| keeper.start(events.clone())).transpose()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let arbiters = (0..data_arbiters(cores)).map(|_| Arbiter::try_new()).collect::<Result<Vec<_>, _>>()?;
        let parts = Parts {
            coordinators: wiring::coordinators(config, &identity, &tls)?,
            sources: wiring::sources(&config.backends, &tls),
            policy: wiring::policy(&config.backends),
            arbiters: arbiters.iter().map(Arbiter::handle).collect(),
            events: events.clone(),
            actor_count: ActorCount::default(),
            settings: wiring::settings(config),
        };
        let (supervisor, exit) = SupervisorActor::launch(parts);
        Ok(Self { supervisor, exit, snapshot, events, ledger, arbiters })
    }

    /// The agent's state, as it changes.
    pub(crate) fn snapshot(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Asks the router for its state.
    pub(crate) fn view(&self) -> ViewSource {
        let supervisor = self.supervisor.clone();
        Arc::new(move || {
            let view = supervisor.send(GetRouterView);
            Box::pin(async move { view.await.ok().flatten() })
        })
    }

    /// What pauses it, with its state in this file.
    pub(crate) fn pause_switch(&self, file: PathBuf) -> PauseSwitch {
        PauseSwitch::open(file, self.supervisor.clone().recipient(), self.events.clone())
    }

    /// Takes no new job and ends when the running ones have; a second call ends them.
    pub(crate) fn drain(&self) {
        self.supervisor.do_send(Drain);
    }

    /// Waits for the end, and until its jobs are in the ledger.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = match (&mut self.exit).await {
            Ok(Exit::Drained) => ExitStatus::Success,
            // An end without a word is a panic of the supervisor itself.
            Ok(Exit::GaveUp) | Err(_) => ExitStatus::Bug,
        };
        if let Some(ledger) = self.ledger.take() {
            ledger.close(LEDGER_LIMIT).await;
        }
        status
    }

    /// Drains and waits for the end.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.drain();
        self.ended().await
    }

    /// Runs until it ends, draining on signals.
    pub(crate) async fn run_until_signalled(mut self, mut signals: Signals) -> ExitStatus {
        loop {
            let signal = tokio::select! {
                status = self.ended() => return status,
                signal = signals.next() => signal,
            };
            log::info!(target: "outpost::agent", signal:? = signal; "signal received");
            self.drain();
        }
    }
}

/// `outpost run`: an agent with the stored identity and a status page, until a signal.
pub(crate) async fn run(config: AgentConfig) -> Result<ExitStatus, StartError> {
    let identity = open_identity(config.identity_path.clone())?;
    let status = StatusServer::open(config.status_addr)?;
    let signals = Signals::listen()?;
    let ledger = config.ledger.as_ref().map(|ledger| ledger.path.clone());
    let agent = Agent::start(&config, identity)?;
    let pause = agent.pause_switch(beside(&config.identity_path, ".pause"));
    let control = control(&config.identity_path, &pause);
    let serving = status.map(|server| server.serve(agent.snapshot(), agent.view(), ledger, control)).transpose()?;
    let ended = tokio::select! {
        ended = agent.run_until_signalled(signals) => ended,
        never = pause.run() => match never {},
    };
    if let Some(server) = serving {
        server.stop(false).await;
    }
    Ok(ended)
}

/// What carries out the orders of a caller with the token.
fn control(identity: &Path, pause: &PauseSwitch) -> Option<Control> {
    let file = token_path(identity);
    let token = create_token(&file)
        .inspect_err(|cause| {
            log::warn!(target: "outpost::agent", path:% = file.display(), cause:%; "no token can be stored: orders are not taken");
        })
        .ok()?;
    let pause = pause.clone();
    let carry_out = move |order| match order {
        Order::Pause { seconds } => pause.pause(Order::time(seconds)),
        Order::Resume => pause.resume(),
    };
    Some(Control { token, carry_out: Arc::new(carry_out) })
}

/// The file of the token of the agent with this identity.
pub(crate) fn token_path(identity: &Path) -> PathBuf {
    beside(identity, ".token")
}

/// The file that leads a browser to its page.
pub(crate) fn doorway_path(identity: &Path) -> PathBuf {
    beside(identity, ".html")
}

fn open_identity(path: PathBuf) -> Result<Identity, IdentityError> {
    let (identity, origin) = Identity::load_or_create(&path)?;
    let how = match origin {
        Origin::Created => "created",
        Origin::Loaded => "loaded",
    };
    log::info!(target: "outpost::agent", path:% = path.display(), pubkey:% = identity.pubkey_base64(); "identity {how}");
    Ok(identity)
}
