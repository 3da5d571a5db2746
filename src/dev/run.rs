//! Bringing the two ends up, and telling the person at the terminal what runs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::echo::{self, Echo};
use super::prompt::{self, Client, PromptError};
use crate::app::{self, Agent, ExitStatus, Signals, StartError};
use crate::config::{
    AgentConfig, AgentHosts, Backends, CoordinatorConfig, Environment, Layered, MapEnvironment, Report,
};
use crate::coordinator::{CoordinatorError, bind};
use crate::identity::Identity;
use crate::messages::untrusted::{Untrusted, UntrustedJson};
use crate::status::StatusServer;
use crate::telemetry::Snapshot;
use crate::transport::tcp::reachable;
use crate::transport::tls::client_config;

/// How long a probe for backends may take before the built-in echo is used.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long the two ends may take to find each other.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// The options of the command line.
#[derive(Clone, Debug)]
pub(crate) struct DevOptions {
    /// Where the coordinator listens, if the command line sets it; port 0 picks one.
    pub listen: Option<SocketAddr>,
    /// One chat to send before leaving.
    pub prompt: Option<String>,
}

/// Why `dev` does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// The environment is wrong.
    #[error("{0}")]
    Configuration(#[from] Report),
    /// The coordinator does not start.
    #[error("{0}")]
    Coordinator(#[from] CoordinatorError),
    /// The agent does not start.
    #[error("{0}")]
    Agent(#[from] StartError),
    /// Nothing could be offered.
    #[error("no model is on offer after {} s: is the server of OUTPOST_BACKENDS running?", READY_LIMIT.as_secs())]
    NotReady,
    /// The prompt failed.
    #[error("{0}")]
    Prompt(#[from] PromptError),
    /// The terminal, the echo's port or a signal.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl DevError {
    /// What the process ends with.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Configuration(_) => ExitStatus::Configuration,
            Self::Coordinator(CoordinatorError::Bind { .. }) => ExitStatus::Failure,
            Self::Coordinator(_) => ExitStatus::Configuration,
            Self::Agent(error) => error.exit_status(),
            Self::NotReady | Self::Prompt(_) | Self::Io(_) => ExitStatus::Failure,
        }
    }
}

/// Runs until a signal, or until the prompt is answered. `out` is the terminal.
pub(crate) async fn run(
    options: DevOptions,
    env: &dyn Environment,
    out: &mut dyn Write,
) -> Result<ExitStatus, DevError> {
    let (config, _) = CoordinatorConfig::from_env(env)?;
    let client = Client::new(config.api_key.clone(), config.job_timeout + config.deadline_margin);
    let identity = Identity::ephemeral().map_err(StartError::from)?;
    let server = bind(CoordinatorConfig {
        listen: options.listen.unwrap_or(config.listen),
        // Only its own agent is admitted.
        enrollment_code: None,
        agent_keys: vec![identity.pubkey()],
        agent_hosts: AgentHosts::OwnAddress,
        threads: 1,
        stop_grace: Duration::from_secs(1),
        ..config
    })?;
    let addr = reachable(server.local_addr());
    let stop = server.handle();
    let session = async {
        let status = with_backends(identity, addr, &client, &options, env, out).await;
        stop.stop().await;
        status
    };
    let (served, status) = tokio::join!(server.run(), session);
    served?;
    status
}

/// The agent with the backends that there are, else with the echo.
async fn with_backends(
    identity: Identity,
    addr: SocketAddr,
    client: &Client,
    options: &DevOptions,
    env: &dyn Environment,
    out: &mut dyn Write,
) -> Result<ExitStatus, DevError> {
    let config = agent_config(env, addr, None)?;
    if finds_any(&config).await? {
        return with_agent(&config, identity, addr, client, options, out).await;
    }
    log::info!("no inference server found, the built-in echo is used");
    let echo = echo::start()?;
    let status = match agent_config(env, addr, Some(&echo)) {
        Ok(config) => with_agent(&config, identity, addr, client, options, out).await,
        Err(report) => Err(report.into()),
    };
    echo.stop().await;
    status
}

async fn with_agent(
    config: &AgentConfig,
    identity: Identity,
    addr: SocketAddr,
    client: &Client,
    options: &DevOptions,
    out: &mut dyn Write,
) -> Result<ExitStatus, DevError> {
    match &options.prompt {
        Some(prompt) => answer_prompt(config, identity, addr, client, prompt, out).await,
        None => run_until_signalled(config, identity, addr, client, out).await,
    }
}

/// Sends the prompt and ends with its answer, without a status page.
async fn answer_prompt(
    config: &AgentConfig,
    identity: Identity,
    addr: SocketAddr,
    client: &Client,
    prompt: &str,
    out: &mut dyn Write,
) -> Result<ExitStatus, DevError> {
    let agent = Agent::start(config, identity)?;
    let answered = async {
        let (_, models) = until_ready(agent.snapshot(), addr, client).await?;
        let first = models.first().ok_or(DevError::NotReady)?;
        Ok(client.chat(addr, first, prompt, out).await?)
    };
    let answered = answered.await;
    let status = agent.stop().await;
    answered.map(|()| status)
}

/// Prints what runs and where, and runs until a signal.
async fn run_until_signalled(
    config: &AgentConfig,
    identity: Identity,
    addr: SocketAddr,
    client: &Client,
    out: &mut dyn Write,
) -> Result<ExitStatus, DevError> {
    let page = StatusServer::open(config.status_addr).map_err(StartError::from)?;
    let page_addr = page.as_ref().map(StatusServer::local_addr).transpose()?;
    let agent = Agent::start(config, identity)?;
    let serving = page.map(|page| page.serve(agent.snapshot(), agent.view(), None, None)).transpose()?;
    let introduced = async {
        let (snapshot, models) = until_ready(agent.snapshot(), addr, client).await?;
        // Before the greeting: a signal that follows it causes a clean shutdown.
        let signals = Signals::listen()?;
        greet(addr, page_addr, client, &snapshot, &models, out)?;
        Ok(signals)
    };
    let ended = match introduced.await {
        Ok(signals) => Ok(agent.run_until_signalled(signals).await),
        Err(error) => {
            agent.stop().await;
            Err(error)
        }
    };
    if let Some(server) = serving {
        server.stop(false).await;
    }
    ended
}

/// Waits until there is a model on offer. Returns the agent's state and the models.
async fn until_ready(
    mut snapshot: watch::Receiver<Snapshot>,
    addr: SocketAddr,
    client: &Client,
) -> Result<(Snapshot, Vec<String>), DevError> {
    let ready = match timeout(READY_LIMIT, snapshot.wait_for(Snapshot::is_ready)).await {
        Ok(Ok(snapshot)) => snapshot.clone(),
        _ => return Err(DevError::NotReady),
    };
    let models = client.models(addr).await?;
    if models.is_empty() { Err(DevError::NotReady) } else { Ok((ready, models)) }
}

fn greet(
    addr: SocketAddr,
    page_addr: Option<SocketAddr>,
    client: &Client,
    snapshot: &Snapshot,
    models: &[String],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "outpost {} is running: a coordinator, an agent, and", snapshot.version)?;
    for (name, backend) in snapshot.backends.iter().filter(|(_, backend)| backend.up) {
        let models: Vec<String> = backend.models.iter().map(|model| Untrusted(model.as_str()).to_string()).collect();
        writeln!(out, "  backend {name}: {}", models.join(", "))?;
    }
    let key = if client.has_key() { " -H \"Authorization: Bearer $OUTPOST_COORDINATOR_API_KEY\"" } else { "" };
    writeln!(
        out,
        "\nAPI       http://{addr}/v1   (OpenAI and Anthropic style; POST /v1/chat/completions, /v1/messages)"
    )?;
    writeln!(out, "agents    http://{addr}/api/agents")?;
    if let Some(page_addr) = page_addr {
        writeln!(out, "page      http://{}/   (also /status and /metrics)", reachable(page_addr))?;
    }
    writeln!(out, "\ntry it:\n")?;
    let model = models.first().map_or("", String::as_str);
    // A model's name is whatever its server reports.
    let body = prompt::body(model, "Say hello.");
    let body = UntrustedJson(&body);
    writeln!(out, "  curl -N http://{addr}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'")?;
    writeln!(out, "\nCtrl-C stops it.")?;
    out.flush()
}

/// The agent's configuration: the operator's, but for what `dev` brings along.
fn agent_config(env: &dyn Environment, addr: SocketAddr, echo: Option<&Echo>) -> Result<AgentConfig, Report> {
    let mut own = MapEnvironment::from([
        ("OUTPOST_COORDINATOR_URL", format!("ws://127.0.0.1:{}/agent", addr.port())),
        // Never opened: the identity is a throw-away one.
        ("OUTPOST_IDENTITY_PATH", "unused".to_owned()),
        ("OUTPOST_LEDGER_PATH", "off".to_owned()),
        ("OUTPOST_ENROLLMENT_CODE", String::new()),
        ("OUTPOST_ENROLLMENT_CODE_FILE", String::new()),
    ]);
    if let Some(echo) = echo {
        own.set("OUTPOST_BACKENDS", format!("echo@openai={}", echo.base_url()));
    }
    let (mut config, warnings) = AgentConfig::from_env(&Layered { upper: &own, lower: env })?;
    // It is this very process: neither a proxy nor the rule against plain connections to other hosts applies.
    if config.coordinators.iter_mut().all(|site| site.url.set_ip_host(addr.ip()).is_ok()) {
        config.proxy = None;
    }
    for warning in warnings {
        log::warn!("{warning}");
    }
    Ok(config)
}

/// Whether there is a backend to use. Those that the operator named are used whether they answer or not.
async fn finds_any(config: &AgentConfig) -> Result<bool, StartError> {
    if matches!(config.backends, Backends::List(_)) {
        return Ok(true);
    }
    let tls = client_config(config.ca_file.as_deref())?;
    let sources = app::sources(&config.backends, &tls);
    let mut probes: Vec<_> = sources.iter().map(|source| source.probe()).collect();
    let any = async {
        while !probes.is_empty() {
            let (found, _, rest) = select_all(probes).await;
            if found.is_ok_and(|found| !found.report.models.is_empty()) {
                return true;
            }
            probes = rest;
        }
        false
    };
    Ok(timeout(PROBE_LIMIT, any).await.unwrap_or(false))
}
