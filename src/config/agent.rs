//! The agent's configuration: all of it, read and checked in one go.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::backends::{Backends, MAX_JOBS};
use super::coordinators::{self, CoordinatorSite};
use super::environment::Environment;
use super::logging::LogConfig;
use super::proxy::Proxy;
use super::reader::Reader;
use super::report::{Cause, Report, Warning};
use super::urls::Insecure;
use super::{prices, units, unknown, vars};
use crate::messages::prices::PriceList;

/// What a token budget may be at most: beyond what any machine makes, and exact in JSON.
const MAX_TOKENS: u64 = 1_000_000_000_000;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// The coordinators: one to 16, each with another host and port.
    pub coordinators: Vec<CoordinatorSite>,
    /// The private key's file.
    pub identity_path: PathBuf,
    /// Which servers to use.
    pub backends: Backends,
    /// Jobs at once over all backends, 1 to 4096.
    pub max_concurrent: u32,
    /// Token budget over all backends; none where this is `None`.
    pub max_tokens_per_minute: Option<u64>,
    /// What models cost.
    pub prices: PriceList,
    /// How often the backends are probed, 1 s to 1 h.
    pub discovery_interval: Duration,
    /// How long a drain waits for running jobs, up to 1 h.
    pub shutdown_grace: Duration,
    /// Where the status is served.
    pub status_addr: StatusAddr,
    /// The ledger of ended jobs; `None`: there is none.
    pub ledger: Option<LedgerConfig>,
    /// PEM certificates that are trusted in addition to the built-in roots. Could be opened when the configuration was read.
    pub ca_file: Option<PathBuf>,
    /// The way to the coordinator.
    pub proxy: Option<Proxy>,
    /// The largest message taken from the coordinator, in bytes: 64 KiB to 1 GiB.
    pub max_message_size: usize,
    /// Bytes of a response that a job may keep until the coordinator acknowledges them: 96 KiB to 1 GiB.
    pub max_kept_per_job: usize,
    /// Bytes that all jobs together may keep beyond what each may always keep: 1 MiB to 64 GiB.
    pub max_kept: usize,
    /// Whether requests may name media by URLs that backends fetch.
    pub allow_remote_media: bool,
    /// Whether the operator lets keys and jobs travel unencrypted. Already applied to the URLs here.
    pub allow_insecure: bool,
    /// Whether only signatures that name the coordinator are made.
    pub require_auth2: bool,
    /// Whether core dumps and debuggers may read the process's memory.
    pub allow_dumps: bool,
}

/// The ledger of ended jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Its file.
    pub path: PathBuf,
    /// How long it keeps a job, 1 to 3650 days.
    pub age: Duration,
    /// How large it may be, in bytes: 1 MiB to 64 GiB.
    pub size: usize,
}

/// Where the status page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusAddr {
    /// Nowhere.
    Off,
    /// Here.
    On {
        /// The address to listen on; port 0 picks one.
        addr: SocketAddr,
        /// Whether the operator set this address, so that it is an error if it is not available.
        explicit: bool,
    },
}

impl AgentConfig {
    /// Reads and checks everything. A command that needs no coordinator to be configured, such as `dev`, lays its own
    /// values over the environment with [`Layered`](super::Layered).
    ///
    /// # Errors
    /// All that is wrong, in one report.
    pub fn from_env(env: &dyn Environment) -> Result<(Self, Vec<Warning>), Report> {
        let mut reader = Reader::new(env);
        LogConfig::read(&mut reader);
        let allow_insecure = reader.parse(&vars::ALLOW_INSECURE, units::boolean).unwrap_or_default();
        let insecure = if allow_insecure { Insecure::Allowed } else { Insecure::Refused };
        let coordinators = coordinators::read(&mut reader, insecure);
        let identity_path = identity_path(&mut reader);
        let backends = Backends::read(&mut reader, insecure);
        let max_concurrent = reader.parse(&vars::MAX_CONCURRENT, |text| units::small_integer(text, 1, MAX_JOBS));
        let max_tokens_per_minute =
            reader.parse(&vars::MAX_TOKENS_PER_MINUTE, |text| units::integer(text, 1, MAX_TOKENS));
        let prices = prices::read(&mut reader);
        let discovery_interval = reader.parse(&vars::DISCOVERY_INTERVAL, |text| units::duration(text, SECOND, HOUR));
        let shutdown_grace = reader.parse(&vars::SHUTDOWN_GRACE, |text| units::duration(text, Duration::ZERO, HOUR));
        let status_addr = status_addr(&mut reader);
        let ledger = LedgerConfig::read(&mut reader, identity_path.as_deref());
        let ca_file = reader.file(&vars::CA_FILE);
        let proxy = Proxy::read(&mut reader);
        let max_message_size = reader.parse(&vars::MAX_MESSAGE_SIZE, |text| units::size(text, 64 << 10, 1 << 30));
        let max_kept_per_job = reader.parse(&vars::MAX_KEPT_PER_JOB, |text| units::size(text, 96 << 10, 1 << 30));
        let max_kept = reader.parse(&vars::MAX_KEPT, |text| units::size(text, 1 << 20, 64 << 30));
        let allow_remote_media = reader.parse(&vars::ALLOW_REMOTE_MEDIA, units::boolean);
        let require_auth2 = reader.parse(&vars::REQUIRE_AUTH2, units::boolean);
        let allow_dumps = reader.parse(&vars::ALLOW_DUMPS, units::boolean).unwrap_or_default();
        let known_backends = backends.as_ref().filter(|_| !reader.is_rejected(&vars::BACKENDS));
        unknown::warn(&mut reader, known_backends);
        let complete = || {
            Some(Self {
                coordinators: coordinators?,
                identity_path: identity_path?,
                backends: backends?,
                max_concurrent: max_concurrent?,
                max_tokens_per_minute,
                prices: prices?,
                discovery_interval: discovery_interval?,
                shutdown_grace: shutdown_grace?,
                status_addr: status_addr?,
                ledger: ledger?,
                ca_file,
                proxy,
                max_message_size: max_message_size?,
                max_kept_per_job: max_kept_per_job?,
                max_kept: max_kept?,
                allow_remote_media: allow_remote_media?,
                allow_insecure,
                require_auth2: require_auth2?,
                allow_dumps,
            })
        };
        let config = complete();
        reader.finish(config)
    }

    /// Only whether core dumps and debuggers are allowed, for the start of every command. A value that makes no sense
    /// allows nothing here, and is reported with the rest of the configuration.
    pub fn allow_dumps_from_env(env: &dyn Environment) -> bool {
        Reader::new(env).parse(&vars::ALLOW_DUMPS, units::boolean).unwrap_or_default()
    }

    /// Only where the identity is, for the command that shows it.
    ///
    /// # Errors
    /// If that is not known.
    pub fn identity_path_from_env(env: &dyn Environment) -> Result<PathBuf, Report> {
        let mut reader = Reader::new(env);
        let path = identity_path(&mut reader);
        reader.finish(path).map(|(path, _)| path)
    }
}

impl LedgerConfig {
    /// Only where the ledger is, for the command that reads it.
    ///
    /// # Errors
    /// If that is not known.
    pub fn from_env(env: &dyn Environment) -> Result<Option<Self>, Report> {
        let mut reader = Reader::new(env);
        let identity_path = identity_path(&mut reader);
        let ledger = Self::read(&mut reader, identity_path.as_deref());
        reader.finish(ledger).map(|(ledger, _)| ledger)
    }

    /// `Some(None)`: the operator wants none.
    fn read(reader: &mut Reader<'_>, identity: Option<&Path>) -> Option<Option<Self>> {
        let age = reader.parse(&vars::LEDGER_AGE, |text| units::duration(text, DAY, 3650 * DAY));
        let size = reader.parse(&vars::LEDGER_SIZE, |text| units::size(text, 1 << 20, 64 << 30));
        let path = match reader.text(&vars::LEDGER_PATH) {
            Some(text) if *text == "off" => return Some(None),
            Some(text) => PathBuf::from(text.as_str()),
            None => {
                let mut name = identity?.as_os_str().to_owned();
                name.push(".ledger");
                PathBuf::from(name)
            }
        };
        Some(Some(Self { path, age: age?, size: size? }))
    }
}

impl StatusAddr {
    /// Only where the status is, for the command that asks for it.
    ///
    /// # Errors
    /// If that is not known.
    pub fn from_env(env: &dyn Environment) -> Result<Self, Report> {
        let mut reader = Reader::new(env);
        let addr = status_addr(&mut reader);
        reader.finish(addr).map(|(addr, _)| addr)
    }
}

/// The variable, else the place that the XDG base directory specification gives to state.
fn identity_path(reader: &mut Reader<'_>) -> Option<PathBuf> {
    if let Some(path) = reader.text(&vars::IDENTITY_PATH) {
        return Some(PathBuf::from(path.as_str()));
    }
    // That specification says to skip a relative path.
    let absolute = |path: Zeroizing<String>| Some(PathBuf::from(path.as_str())).filter(|path| path.is_absolute());
    let state = reader.named("XDG_STATE_HOME", "/var/lib").and_then(absolute);
    let state =
        state.or_else(|| reader.named("HOME", "/root").and_then(absolute).map(|home| home.join(".local/state")));
    if state.is_none() {
        reader.reject(&vars::IDENTITY_PATH, None, Cause::NoHome);
    }
    state.map(|state| state.join(Path::new("outpost/identity.key")))
}

fn status_addr(reader: &mut Reader<'_>) -> Option<StatusAddr> {
    let explicit = reader.is_set(&vars::STATUS_ADDR);
    let status = reader.parse(&vars::STATUS_ADDR, |text| {
        if text == "off" {
            return Ok(StatusAddr::Off);
        }
        units::address(text).map(|addr| StatusAddr::On { addr, explicit })
    });
    if let Some(StatusAddr::On { addr, .. }) = status
        && !addr.ip().to_canonical().is_loopback()
    {
        reader.warn(Warning::StatusBeyondLoopback { variable: vars::STATUS_ADDR.name.to_string(), addr });
    }
    status
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
