//! The table: every variable that outpost reads, with its default, an example that works, and what it means.
//!
//! No parsing here. The order is that of the example files and of the README.

use super::variable::Fallback::{Derived, Required, Unset, Value};
use super::variable::{Scope, Variable};

/// See [`TABLE`].
pub(crate) static COORDINATOR_URL: Variable = Variable::agent(
    "OUTPOST_COORDINATOR_URL",
    Required,
    "wss://coordinator.example/agent",
    "URL of the coordinator: `wss://…`; `ws://` only to this host, or with OUTPOST_ALLOW_INSECURE; a comma list connects to \
     several coordinators, at most 16",
)
.url();
/// See [`TABLE`].
pub(crate) static ENROLLMENT_CODE: Variable = Variable::agent(
    "OUTPOST_ENROLLMENT_CODE",
    Unset,
    "the-code-you-were-given",
    "sent to the coordinator until it has assigned a provider id to this agent; for several coordinators a comma list with a \
     code for each, or nothing between the commas",
)
.secret();
/// See [`TABLE`].
pub(crate) static IDENTITY_PATH: Variable = Variable::agent(
    "OUTPOST_IDENTITY_PATH",
    Derived("$XDG_STATE_HOME/outpost/identity.key"),
    "/var/lib/outpost/identity.key",
    "file of the agent's private key, created on the first run; XDG_STATE_HOME defaults to $HOME/.local/state",
);
/// See [`TABLE`].
pub(crate) static BACKENDS: Variable = Variable::agent(
    "OUTPOST_BACKENDS",
    Value("auto"),
    "vllm=http://127.0.0.1:8000,big@ollama=http://10.0.0.7:11434",
    "comma list of `[name@]kind=url`, kind one of <SERVERS> (any other), or a service, which needs a key and no url: \
     <SERVICES>; `auto` probes the usual ports of this host",
)
.url();
/// See [`TABLE`].
pub(crate) static BACKEND_API_KEY: Variable = Variable::agent(
    "OUTPOST_BACKEND_<NAME>_API_KEY",
    Unset,
    "sk-local-0123456789",
    "bearer token for the backend, required for a service; NAME is the backend's name in upper case, with `_` for `-`",
)
.secret();
/// See [`TABLE`].
pub(crate) static BACKEND_MODELS: Variable = Variable::agent(
    "OUTPOST_BACKEND_<NAME>_MODELS",
    Derived("every model"),
    "llama3.2:3b,qwen2.5:7b",
    "comma list of the backend's models to offer",
);
/// See [`TABLE`].
pub(crate) static BACKEND_MAX_CONCURRENT: Variable = Variable::agent(
    "OUTPOST_BACKEND_<NAME>_MAX_CONCURRENT",
    Derived("what the backend reports, else OUTPOST_MAX_CONCURRENT"),
    "4",
    "concurrent jobs on the backend, 1 to 4096",
);
/// See [`TABLE`].
pub(crate) static BACKEND_MARKUP: Variable = Variable::agent(
    "OUTPOST_BACKEND_<NAME>_MARKUP",
    Value("0"),
    "0.2",
    "markup on the price of the backend's models, as a fraction of the price, 0 to 10",
);
/// See [`TABLE`].
pub(crate) static MAX_CONCURRENT: Variable =
    Variable::agent("OUTPOST_MAX_CONCURRENT", Value("8"), "16", "concurrent jobs over all backends, 1 to 4096");
/// See [`TABLE`].
pub(crate) static MAX_TOKENS_PER_MINUTE: Variable = Variable::agent(
    "OUTPOST_MAX_TOKENS_PER_MINUTE",
    Unset,
    "100000",
    "token budget over all backends, prompts and responses together",
);
/// See [`TABLE`].
pub(crate) static PRICE_INPUT: Variable = Variable::agent(
    "OUTPOST_PRICE_INPUT_PER_1M",
    Value("500000"),
    "400000",
    "price of a million prompt tokens, in micro-USD",
);
/// See [`TABLE`].
pub(crate) static PRICE_OUTPUT: Variable = Variable::agent(
    "OUTPOST_PRICE_OUTPUT_PER_1M",
    Value("750000"),
    "900000",
    "price of a million generated tokens, in micro-USD",
);
/// See [`TABLE`].
pub(crate) static PRICES: Variable = Variable::agent(
    "OUTPOST_PRICES",
    Unset,
    "llama3.2:3b=100000/200000,qwen2.5:7b=0/0",
    "comma list of `model=input/output`, prices of single models; a model with the price 0/0 is not offered",
);
/// See [`TABLE`].
pub(crate) static DISCOVERY_INTERVAL: Variable = Variable::agent(
    "OUTPOST_DISCOVERY_INTERVAL",
    Value("30s"),
    "1m",
    "time between two probes of the backends, 1s to 1h",
);
/// See [`TABLE`].
pub(crate) static SHUTDOWN_GRACE: Variable = Variable::agent(
    "OUTPOST_SHUTDOWN_GRACE",
    Value("30s"),
    "2m",
    "time that running jobs have to finish after SIGTERM, 0s to 1h",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_RESUME_WINDOW: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_RESUME_WINDOW",
    Value("60s"),
    "2m",
    "time that jobs wait for an agent whose connection was lost to come back, 1s to 10m",
);
/// See [`TABLE`].
pub(crate) static STATUS_ADDR: Variable = Variable::agent(
    "OUTPOST_STATUS_ADDR",
    Value("127.0.0.1:9090"),
    "127.0.0.1:9191",
    "address of the status page, metrics and health checks; port 0 picks a free port; or `off`",
);
/// See [`TABLE`].
pub(crate) static LEDGER_PATH: Variable = Variable::agent(
    "OUTPOST_LEDGER_PATH",
    Derived("OUTPOST_IDENTITY_PATH with `.ledger` at its end"),
    "/var/lib/outpost/ledger",
    "file of the ledger, an SQLite database with a row for each job that ended, for `outpost usage`; or `off`",
);
/// See [`TABLE`].
pub(crate) static LEDGER_AGE: Variable =
    Variable::agent("OUTPOST_LEDGER_AGE", Value("400d"), "90d", "time that the ledger keeps a job, 1d to 3650d");
/// See [`TABLE`].
pub(crate) static LEDGER_SIZE: Variable = Variable::agent(
    "OUTPOST_LEDGER_SIZE",
    Value("256MiB"),
    "1GiB",
    "largest size of the ledger, 1MiB to 64GiB; at the limit it loses its oldest jobs",
);
/// See [`TABLE`].
pub(crate) static CA_FILE: Variable = Variable::agent(
    "OUTPOST_CA_FILE",
    Unset,
    "/etc/outpost/ca.pem",
    "file of PEM certificates to trust in addition to the built-in roots",
);
/// See [`TABLE`].
pub(crate) static PROXY: Variable = Variable::agent(
    "OUTPOST_PROXY",
    Derived("HTTPS_PROXY"),
    "http://proxy.example:3128",
    "HTTP proxy to the coordinator, `http://[user:password@]host:port`, or `off`; not used for this host, nor for \
     hosts in NO_PROXY",
)
.url();
/// See [`TABLE`].
pub(crate) static MAX_MESSAGE_SIZE: Variable = Variable::agent(
    "OUTPOST_MAX_MESSAGE_SIZE",
    Value("64MiB"),
    "16MiB",
    "largest message accepted from the coordinator, 64KiB to 1GiB",
);
/// See [`TABLE`].
pub(crate) static MAX_KEPT_PER_JOB: Variable = Variable::agent(
    "OUTPOST_MAX_KEPT_PER_JOB",
    Value("1MiB"),
    "256KiB",
    "with the extension resume: most bytes of a response that are kept until the coordinator acknowledges them, 96KiB to 1GiB; at \
     the limit the backend waits",
);
/// See [`TABLE`].
pub(crate) static MAX_KEPT: Variable = Variable::agent(
    "OUTPOST_MAX_KEPT",
    Value("64MiB"),
    "256MiB",
    "with the extension resume: most bytes that all jobs together keep beyond the 96KiB that each may always keep, 1MiB to 64GiB",
);
/// See [`TABLE`].
pub(crate) static ALLOW_REMOTE_MEDIA: Variable = Variable::agent(
    "OUTPOST_ALLOW_REMOTE_MEDIA",
    Value("false"),
    "true",
    "allow requests to name images, audio, video and files by URLs, which the backends fetch from your network",
);
/// See [`TABLE`].
pub(crate) static ALLOW_INSECURE: Variable = Variable::agent(
    "OUTPOST_ALLOW_INSECURE",
    Value("false"),
    "true",
    "allow unencrypted connections to other hosts, for keys and jobs",
);
/// See [`TABLE`].
pub(crate) static REQUIRE_AUTH2: Variable = Variable::agent(
    "OUTPOST_REQUIRE_AUTH2",
    Value("false"),
    "true",
    "connect only to a coordinator with the extension auth2, so that no other coordinator can use this agent's signature",
);
/// See [`TABLE`].
pub(crate) static ALLOW_DUMPS: Variable = Variable::agent(
    "OUTPOST_ALLOW_DUMPS",
    Value("false"),
    "true",
    "Linux: allow core dumps and debuggers of the same user, which can read keys and prompts in memory",
)
.of(Scope::Every);
/// See [`TABLE`].
pub(crate) static LOG: Variable = Variable::agent(
    "OUTPOST_LOG",
    Derived("RUST_LOG, else info"),
    "info,outpost::jobs=debug",
    "log level: error, warn, info, debug, trace or off, also by target: outpost::jobs, outpost::backends, outpost::connection, outpost::agent, outpost::coordinator",
)
.of(Scope::Every);
/// See [`TABLE`].
pub(crate) static LOG_FORMAT: Variable =
    Variable::agent("OUTPOST_LOG_FORMAT", Value("text"), "json", "`text` or `json`").of(Scope::Every);
/// See [`TABLE`].
pub(crate) static COORDINATOR_LISTEN: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_LISTEN",
    Value("127.0.0.1:7700"),
    "0.0.0.0:7700",
    "address to listen on; port 0 picks a free port; `--listen` takes precedence",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_API_KEY: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_API_KEY",
    Unset,
    "sk-coordinator-0123456789",
    "bearer token that clients of the API must send; without it only programs on this machine are served",
)
.secret();
/// See [`TABLE`].
pub(crate) static COORDINATOR_ENROLLMENT_CODE: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_ENROLLMENT_CODE",
    Unset,
    "the-code-you-hand-out",
    "code that an unknown agent must send to be admitted, at least 16 characters; if the coordinator listens beyond \
     loopback, this or OUTPOST_COORDINATOR_AGENT_KEYS is required",
)
.secret();
/// See [`TABLE`].
pub(crate) static COORDINATOR_AGENT_KEYS: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_AGENT_KEYS",
    Unset,
    "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "comma list of the public keys (base64) of agents that are always admitted",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_HOSTS: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_HOSTS",
    Unset,
    "coordinator.example:443,10.0.0.7:7700",
    "comma list of `host:port`, all names by which agents reach the coordinator, as in their OUTPOST_COORDINATOR_URL and with \
     the port; offers the extension auth2",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_JOB_TIMEOUT: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_JOB_TIMEOUT",
    Value("10m"),
    "30m",
    "time that a job may take, 1s to 24h",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_QUEUE_TIME: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_QUEUE_TIME",
    Value("10s"),
    "30s",
    "time that a request may wait for a slot while all agents of its model are busy or have lost their connection, 0 to 1h, \
     within OUTPOST_COORDINATOR_JOB_TIMEOUT; with 0 it gets 429 or 503 at once",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_QUEUE_LENGTH: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_QUEUE_LENGTH",
    Value("1024"),
    "256",
    "most requests that wait for a slot, 1 to 65536; above it the newest request of the client with the most gets 429",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_MAX_JOB_SIZE: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_MAX_JOB_SIZE",
    Value("48MiB"),
    "8MiB",
    "largest job message to an agent, and so the largest request, 64KiB to 1GiB; less for an agent that \
     reports a smaller OUTPOST_MAX_MESSAGE_SIZE",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_MAX_REQUEST_MEMORY: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_MAX_REQUEST_MEMORY",
    Value("256MiB"),
    "1GiB",
    "most bytes of request bodies in memory together, 64KiB to 64GiB and at least \
     OUTPOST_COORDINATOR_MAX_JOB_SIZE; a request above it gets 503",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_MAX_RESPONSE_BUFFER: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_MAX_RESPONSE_BUFFER",
    Value("8MiB"),
    "32MiB",
    "most response bytes that wait for one slow client, 64KiB to 1GiB; a job above it is cancelled",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_MAX_MESSAGE_SIZE: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_MAX_MESSAGE_SIZE",
    Value("16MiB"),
    "4MiB",
    "largest message accepted from an agent, 64KiB to 1GiB",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_MAX_CONNECTIONS: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_MAX_CONNECTIONS",
    Value("16384"),
    "65536",
    "connections of clients and agents together, 1 to 1048576, as far as the limit of open files allows",
);
/// See [`TABLE`].
pub(crate) static COORDINATOR_THREADS: Variable =
    Variable::coordinator("OUTPOST_COORDINATOR_THREADS", Value("2"), "8", "threads that serve connections, 1 to 256");
/// See [`TABLE`].
pub(crate) static COORDINATOR_SHUTDOWN_GRACE: Variable = Variable::coordinator(
    "OUTPOST_COORDINATOR_SHUTDOWN_GRACE",
    Value("5s"),
    "30s",
    "time that running jobs have to finish after SIGTERM, 0s to 1h",
);

/// Every variable.
pub(crate) static TABLE: [&Variable; 46] = [
    &COORDINATOR_URL,
    &ENROLLMENT_CODE,
    &IDENTITY_PATH,
    &BACKENDS,
    &BACKEND_API_KEY,
    &BACKEND_MODELS,
    &BACKEND_MAX_CONCURRENT,
    &BACKEND_MARKUP,
    &MAX_CONCURRENT,
    &MAX_TOKENS_PER_MINUTE,
    &PRICE_INPUT,
    &PRICE_OUTPUT,
    &PRICES,
    &DISCOVERY_INTERVAL,
    &SHUTDOWN_GRACE,
    &STATUS_ADDR,
    &LEDGER_PATH,
    &LEDGER_AGE,
    &LEDGER_SIZE,
    &CA_FILE,
    &PROXY,
    &MAX_MESSAGE_SIZE,
    &MAX_KEPT_PER_JOB,
    &MAX_KEPT,
    &ALLOW_REMOTE_MEDIA,
    &ALLOW_INSECURE,
    &REQUIRE_AUTH2,
    &ALLOW_DUMPS,
    &LOG,
    &LOG_FORMAT,
    &COORDINATOR_LISTEN,
    &COORDINATOR_API_KEY,
    &COORDINATOR_ENROLLMENT_CODE,
    &COORDINATOR_AGENT_KEYS,
    &COORDINATOR_HOSTS,
    &COORDINATOR_JOB_TIMEOUT,
    &COORDINATOR_QUEUE_TIME,
    &COORDINATOR_QUEUE_LENGTH,
    &COORDINATOR_MAX_JOB_SIZE,
    &COORDINATOR_MAX_REQUEST_MEMORY,
    &COORDINATOR_MAX_RESPONSE_BUFFER,
    &COORDINATOR_MAX_MESSAGE_SIZE,
    &COORDINATOR_MAX_CONNECTIONS,
    &COORDINATOR_THREADS,
    &COORDINATOR_SHUTDOWN_GRACE,
    &COORDINATOR_RESUME_WINDOW,
];

/// The variables of the table that apply to one backend each.
pub(crate) static PER_BACKEND: [&Variable; 4] =
    [&BACKEND_API_KEY, &BACKEND_MODELS, &BACKEND_MAX_CONCURRENT, &BACKEND_MARKUP];
