//! The configuration of the coordinator in this crate. Used by `cli` and `dev`, which give it to `coordinator`.

use std::net::SocketAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::environment::Environment;
use super::logging::LogConfig;
use super::reader::{Reader, SecretUse};
use super::report::{Cause, Report, Warning};
use super::{units, unknown, vars};
use crate::messages::host_port::HostPort;
use crate::messages::secret::Secret;
use crate::messages::wire::{EXTENSION_TIMES, Extensions};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The names by which agents reach a coordinator: what the signatures of the extension `auth2` must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentHosts {
    /// These. Without one the extension is not offered.
    Named(Vec<HostPort>),
    /// The address where it listens, as programs on the same machine reach it.
    OwnAddress,
}

/// Settings of a coordinator. The values without a variable follow from the protocol; tests change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// The key that clients of the API must send. Required to listen beyond loopback.
    pub api_key: Option<Secret>,
    /// The code that an agent that is not in `agent_keys` must send the first time.
    pub enrollment_code: Option<Secret>,
    /// Public keys of agents that are admitted without a code. If there are some and there is no code, only they are admitted.
    pub agent_keys: Vec<[u8; 32]>,
    /// The names by which agents reach it.
    pub agent_hosts: AgentHosts,
    /// Threads that serve connections, at least 1.
    pub threads: usize,
    /// Connections at once, at least 1, of clients and agents together. More wait until one ends.
    pub max_connections: usize,
    /// How long a job may take.
    pub job_timeout: Duration,
    /// How long a request may wait for a slot, within the time of its job. With zero, no request waits.
    pub queue_time: Duration,
    /// The most requests that wait for a slot.
    pub queue_length: usize,
    /// The largest `job` message, in bytes, and so the largest request body. An agent whose own limit is smaller reports it
    /// with the extension `sizes`; without it, the agent closes its connection when a message is over its limit.
    pub max_job_message: usize,
    /// Bytes of all request bodies held at once. A body is held from its first byte until its response begins. Buffers and
    /// the messages made from the bodies need a few times as much.
    pub max_request_memory: usize,
    /// The largest message of an agent, in bytes.
    pub max_agent_message: usize,
    /// Bytes of a response that may wait for a slow client. A job that goes beyond is cancelled.
    pub max_buffered: usize,
    /// How long a stop waits for running jobs.
    pub stop_grace: Duration,
    /// How long the jobs of an agent wait for its return after its connection was lost, if `resume` was agreed on.
    pub resume_window: Duration,
    /// How much longer an agent may take to report that the deadline passed, before its job is cancelled.
    pub deadline_margin: Duration,
    /// Connections at once of agents that have not proved their key. More are refused.
    pub max_in_handshake: usize,
    /// The extensions that are offered to agents. `auth2` only if the names by which agents reach it are known.
    pub extensions: Extensions,
    /// How often a stream that has begun gets a comment while its job waits for the return of its agent.
    pub waiting_comments: Duration,
    /// How long an agent may take from its connection to its `auth_response`.
    pub handshake_timeout: Duration,
    /// How often agents are pinged.
    pub ping_interval: Duration,
    /// An agent that sent no byte for this time is dead.
    pub agent_silence: Duration,
}

impl CoordinatorConfig {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, in one report.
    pub fn from_env(env: &dyn Environment) -> Result<(Self, Vec<Warning>), Report> {
        let mut reader = Reader::new(env);
        LogConfig::read(&mut reader);
        let listen = reader.parse(&vars::COORDINATOR_LISTEN, units::address);
        let api_key = reader.secret(&vars::COORDINATOR_API_KEY, SecretUse::Header);
        let enrollment_code = reader.secret(&vars::COORDINATOR_ENROLLMENT_CODE, SecretUse::Json);
        let agent_keys = reader.list(&vars::COORDINATOR_AGENT_KEYS, public_key).unwrap_or_default();
        let agent_hosts = reader.list(&vars::COORDINATOR_HOSTS, |text| text.parse().map_err(|_| Cause::NotAHostPort));
        let job_timeout = reader.parse(&vars::COORDINATOR_JOB_TIMEOUT, |text| units::duration(text, SECOND, DAY));
        let queue_time =
            reader.parse(&vars::COORDINATOR_QUEUE_TIME, |text| units::duration(text, Duration::ZERO, HOUR));
        let queue_length = reader.parse(&vars::COORDINATOR_QUEUE_LENGTH, |text| units::count(text, 1 << 16));
        let mut size = |variable, min, max| reader.parse(variable, |text| units::size(text, min, max));
        let max_job_message = size(&vars::COORDINATOR_MAX_JOB_SIZE, 64 * KIB, GIB);
        let max_request_memory = size(&vars::COORDINATOR_MAX_REQUEST_MEMORY, 64 * KIB, 64 * GIB);
        // Some frames of an agent that sends all it has ready.
        let max_buffered = size(&vars::COORDINATOR_MAX_RESPONSE_BUFFER, 256 * KIB, GIB);
        // The list of some thousand models.
        let max_agent_message = size(&vars::COORDINATOR_MAX_MESSAGE_SIZE, MIB, GIB);
        if let (Some(memory), Some(job_size)) = (max_request_memory, max_job_message)
            && memory < job_size
        {
            let set = reader.set_text(&vars::COORDINATOR_MAX_REQUEST_MEMORY);
            let cause = Cause::LessThanOneJob { memory, job_size };
            reader.reject(&vars::COORDINATOR_MAX_REQUEST_MEMORY, set.as_ref().map(|text| text.as_str()), cause);
        }
        let max_connections = reader.parse(&vars::COORDINATOR_MAX_CONNECTIONS, |text| units::count(text, 1 << 20));
        let threads = reader.parse(&vars::COORDINATOR_THREADS, |text| units::count(text, 256));
        let stop_grace =
            reader.parse(&vars::COORDINATOR_SHUTDOWN_GRACE, |text| units::duration(text, Duration::ZERO, HOUR));
        let (shortest, longest) = EXTENSION_TIMES.into_inner();
        let resume_window =
            reader.parse(&vars::COORDINATOR_RESUME_WINDOW, |text| units::duration(text, shortest, longest));
        // In force since the start of the process; only checked here.
        reader.parse(&vars::ALLOW_DUMPS, units::boolean);
        unknown::warn(&mut reader, None);
        let complete = || {
            Some(Self {
                listen: listen?,
                api_key,
                enrollment_code,
                agent_keys,
                agent_hosts: AgentHosts::Named(agent_hosts.unwrap_or_default()),
                threads: threads?,
                max_connections: max_connections?,
                job_timeout: job_timeout?,
                queue_time: queue_time?,
                queue_length: queue_length?,
                max_job_message: max_job_message?,
                max_request_memory: max_request_memory?,
                max_agent_message: max_agent_message?,
                max_buffered: max_buffered?,
                stop_grace: stop_grace?,
                resume_window: resume_window?,
                deadline_margin: Duration::from_secs(5),
                max_in_handshake: 256,
                extensions: Extensions::all(),
                waiting_comments: Duration::from_secs(10),
                handshake_timeout: Duration::from_secs(5),
                ping_interval: Duration::from_secs(20),
                agent_silence: Duration::from_secs(60),
            })
        };
        let config = complete();
        reader.finish(config)
    }
}

fn public_key(text: &str) -> Result<[u8; 32], Cause> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Cause::NotAPublicKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnvironment;

    #[test]
    fn keys_and_codes_are_read() {
        let env = MapEnvironment::from([
            ("OUTPOST_COORDINATOR_API_KEY", "sk-1"),
            ("OUTPOST_COORDINATOR_ENROLLMENT_CODE", "né"),
            (
                "OUTPOST_COORDINATOR_AGENT_KEYS",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=, 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            ),
        ]);
        let (config, warnings) = CoordinatorConfig::from_env(&env).unwrap();
        assert_eq!(config.api_key, Some(Secret::new("sk-1")));
        assert_eq!(config.enrollment_code, Some(Secret::new("né")));
        assert_eq!(config.agent_keys.len(), 2);
        assert_eq!(config.agent_keys.first(), Some(&[0; 32]));
        assert!(warnings.is_empty());
    }

    #[test]
    fn without_variables_it_has_no_secret_and_listens_on_loopback() {
        let (config, warnings) = CoordinatorConfig::from_env(&MapEnvironment::default()).unwrap();
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 7700)));
        assert_eq!((config.api_key, config.enrollment_code, config.agent_keys), (None, None, vec![]));
        assert_eq!(warnings, []);
    }

    #[test]
    fn every_limit_is_read_and_has_bounds() {
        let names = [
            ("OUTPOST_COORDINATOR_LISTEN", "localhost:1", "7700"),
            ("OUTPOST_COORDINATOR_JOB_TIMEOUT", "1h", "25h"),
            ("OUTPOST_COORDINATOR_QUEUE_TIME", "0", "2h"),
            ("OUTPOST_COORDINATOR_QUEUE_LENGTH", "65536", "0"),
            ("OUTPOST_COORDINATOR_MAX_JOB_SIZE", "64KiB", "63KiB"),
            ("OUTPOST_COORDINATOR_MAX_REQUEST_MEMORY", "64GiB", "65GiB"),
            ("OUTPOST_COORDINATOR_MAX_RESPONSE_BUFFER", "1MiB", "0"),
            ("OUTPOST_COORDINATOR_MAX_MESSAGE_SIZE", "2MiB", "2GiB"),
            ("OUTPOST_COORDINATOR_MAX_CONNECTIONS", "7", "0"),
            ("OUTPOST_COORDINATOR_THREADS", "3", "257"),
            ("OUTPOST_COORDINATOR_SHUTDOWN_GRACE", "0s", "2h"),
            ("OUTPOST_COORDINATOR_RESUME_WINDOW", "10m", "11m"),
        ];
        let good: MapEnvironment = names.iter().map(|(name, good, _)| (*name, *good)).collect();
        let (config, _) = CoordinatorConfig::from_env(&good).unwrap();
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!((config.job_timeout, config.stop_grace), (HOUR, Duration::ZERO));
        assert_eq!((config.queue_time, config.queue_length), (Duration::ZERO, 65536));
        assert_eq!(config.resume_window, Duration::from_mins(10));
        assert_eq!((config.max_job_message, config.max_request_memory), (64 << 10, 64 << 30));
        assert_eq!((config.max_buffered, config.max_agent_message), (1 << 20, 2 << 20));
        assert_eq!((config.max_connections, config.threads), (7, 3));
        let bad: MapEnvironment = names.iter().map(|(name, _, bad)| (*name, *bad)).collect();
        let report = CoordinatorConfig::from_env(&bad).unwrap_err();
        let rejected: Vec<&str> = report.problems().iter().map(|problem| problem.variable.as_str()).collect();
        assert_eq!(rejected, names.map(|(name, ..)| name));
    }

    #[test]
    fn less_memory_for_requests_than_for_one_of_them_is_refused_also_beside_a_default() {
        let (memory, job_size) = ("OUTPOST_COORDINATOR_MAX_REQUEST_MEMORY", "OUTPOST_COORDINATOR_MAX_JOB_SIZE");
        let mib = |count: usize| count << 20;
        for (set, expected) in [
            (vec![(memory, "64MiB"), (job_size, "64MiB")], None),
            (vec![(memory, "8MiB"), (job_size, "9MiB")], Some((mib(8), mib(9)))),
            (vec![(memory, "8MiB")], Some((mib(8), mib(48)))),
            (vec![(job_size, "1GiB")], Some((mib(256), mib(1024)))),
        ] {
            let env: MapEnvironment = set.iter().copied().collect();
            let problems = CoordinatorConfig::from_env(&env).err().map(|report| report.problems().to_vec());
            let causes = problems.unwrap_or_default().into_iter().map(|problem| (problem.variable, problem.cause));
            let expected = expected.map(|(memory, job_size)| Cause::LessThanOneJob { memory, job_size });
            assert_eq!(causes.collect::<Vec<_>>(), Vec::from_iter(expected.map(|cause| (memory.to_owned(), cause))));
        }
    }

    #[test]
    fn the_names_by_which_agents_reach_it_are_canonical_and_have_a_port() {
        let name = "OUTPOST_COORDINATOR_HOSTS";
        let env = MapEnvironment::from([(name, "Coordinator.Example:443, [::1]:7700,")]);
        let (config, warnings) = CoordinatorConfig::from_env(&env).unwrap();
        let names = ["coordinator.example:443", "[::1]:7700"].map(|name| name.parse().unwrap());
        assert_eq!((config.agent_hosts, warnings), (AgentHosts::Named(names.into()), vec![]));
        let (config, _) = CoordinatorConfig::from_env(&MapEnvironment::default()).unwrap();
        assert_eq!(config.agent_hosts, AgentHosts::Named(vec![]));
        let env = MapEnvironment::from([(name, "a.example,wss://b.example,c.example:443")]);
        let report = CoordinatorConfig::from_env(&env).unwrap_err();
        let problems: Vec<_> =
            report.problems().iter().map(|problem| (problem.value.as_deref(), &problem.cause)).collect();
        assert_eq!(problems, [Some("a.example"), Some("wss://b.example")].map(|value| (value, &Cause::NotAHostPort)));
    }

    #[test]
    fn every_bad_key_is_reported() {
        let env = MapEnvironment::from([(
            "OUTPOST_COORDINATOR_AGENT_KEYS",
            "AAAA,not base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        )]);
        let report = CoordinatorConfig::from_env(&env).unwrap_err();
        assert!(report.problems().iter().all(|problem| problem.cause == Cause::NotAPublicKey));
        assert_eq!(report.problems().len(), 3);
    }
}
