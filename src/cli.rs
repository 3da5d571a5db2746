//! The command line. A flag exists only for what one sets by hand at a prompt; everything else is environment.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::app::{self, ExitStatus};
use crate::config::vars::Scope;
use crate::config::{
    self, AgentConfig, Environment, Layered, LogConfig, MapEnvironment, ProcessEnvironment, Report, StatusAddr, Warning,
};
use crate::coordinator;
use crate::dev::{self, DevOptions};
use crate::identity::Identity;
use crate::status;
use crate::telemetry::{self, Outside, OutsideJson, Snapshot};

/// Where `dev` and `coordinator` listen by default.
const LISTEN: &str = "127.0.0.1:7700";

#[derive(Parser)]
#[command(name = "outpost", version, about, after_long_help = config::help_text(&Scope::ALL))]
struct Cli {
    /// Read variables from this file too (systemd EnvironmentFile format); the process environment wins
    #[arg(long, value_name = "PATH", global = true)]
    env_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent (the default)
    Run,
    /// Run a coordinator and an agent together on this machine, with the backends it finds, else a built-in echo
    Dev {
        /// Where the coordinator listens; port 0 picks one
        #[arg(long, value_name = "ADDR", default_value = LISTEN)]
        listen: SocketAddr,
        /// Send one chat, print the answer as it comes, and leave
        #[arg(long, value_name = "TEXT")]
        prompt: Option<String>,
    },
    /// Run a coordinator alone, for a small fleet
    Coordinator {
        /// Where to listen; port 0 picks one. Beyond loopback it needs OUTPOST_COORDINATOR_API_KEY, and
        /// OUTPOST_COORDINATOR_ENROLLMENT_CODE or OUTPOST_COORDINATOR_AGENT_KEYS
        #[arg(long, value_name = "ADDR", default_value = LISTEN)]
        listen: SocketAddr,
    },
    /// Ask the agent that runs on this machine how it is
    Status {
        /// Print all of it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the public key and the provider id
    Identity,
    /// Play an agent against a coordinator and print what it violates of the protocol
    Conformance {
        /// The coordinator, as in OUTPOST_COORDINATOR_URL
        url: String,
        /// Use the key of the agent on this machine, and not a fresh one. A running agent with that key is disconnected
        #[arg(long)]
        own_key: bool,
    },
    /// Check or print the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the agent's configuration and say everything that is wrong with it
    Check,
    /// Print the configuration in force, or an example file
    Print {
        /// Print the example file for this instead
        #[arg(long, value_enum)]
        example: Option<Example>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Example {
    /// The agent
    Agent,
    /// The coordinator
    Coordinator,
}

/// Runs the command line of this process.
pub fn main() -> ExitStatus {
    // Before any secret is read.
    app::allow_dumps(false);
    // Before any client is made: the TLS library wants one process-wide provider. An error means that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Nothing can be done about a closed terminal.
            let _ = message.print();
            return if message.use_stderr() { ExitStatus::Configuration } else { ExitStatus::Success };
        }
    };
    let process = ProcessEnvironment::read();
    let file = match cli.env_file.as_deref().map(config::read_env_file).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(error) => return fail(ExitStatus::Configuration, error),
    };
    let env = Layered { upper: &process, lower: &file };
    app::allow_dumps(AgentConfig::allow_dumps_from_env(&env));
    let status = run(cli.command.unwrap_or(Command::Run), &env);
    telemetry::log::finish();
    status
}

fn run(command: Command, env: &dyn Environment) -> ExitStatus {
    match command {
        Command::Run => {
            start_log(env, "info");
            let config = match agent_config(env) {
                Ok(config) => config,
                Err(report) => return fail(ExitStatus::Configuration, report),
            };
            on_system(app::run(config)).unwrap_or_else(|error| fail(error.exit_status(), error))
        }
        Command::Dev { listen, prompt } => {
            start_log(env, if prompt.is_some() { "error" } else { "info" });
            let options = DevOptions { listen, prompt };
            on_system(dev::run(options, env, &mut io::stdout()))
                .unwrap_or_else(|error| fail(error.exit_status(), error))
        }
        Command::Coordinator { listen } => {
            start_log(env, "info");
            run_coordinator(listen, env)
        }
        Command::Status { json } => print_status(json, env),
        Command::Identity => identity(env),
        Command::Conformance { url, own_key } => conformance(&url, own_key, env),
        Command::Config { command } => configuration(&command, env),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "outpost", &mut io::stdout());
            ExitStatus::Success
        }
    }
}

fn run_coordinator(listen: SocketAddr, env: &dyn Environment) -> ExitStatus {
    let own = match config::CoordinatorConfig::from_env(env) {
        Ok((own, warnings)) => {
            warn(&warnings);
            own
        }
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    let defaults = coordinator::CoordinatorConfig::new(listen);
    let config = coordinator::CoordinatorConfig {
        api_key: own.api_key,
        enrollment_code: own.enrollment_code,
        agent_keys: own.agent_keys,
        max_connections: app::open_connections(defaults.max_connections),
        ..defaults
    };
    on_system(async {
        match coordinator::bind(config) {
            Ok(server) => app::serve(server).await.unwrap_or_else(|error| fail(ExitStatus::Failure, error)),
            Err(error @ coordinator::CoordinatorError::Bind { .. }) => fail(ExitStatus::Failure, error),
            Err(error) => fail(ExitStatus::Configuration, error),
        }
    })
}

fn print_status(json: bool, env: &dyn Environment) -> ExitStatus {
    let addr = match StatusAddr::from_env(env) {
        Ok(StatusAddr::On { addr, .. }) => addr,
        Ok(StatusAddr::Off) => return fail(ExitStatus::Failure, "OUTPOST_STATUS_ADDR is off: there is nobody to ask"),
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    let status = match on_system(status::fetch(addr)) {
        Ok(status) => status,
        Err(error) => return fail(ExitStatus::Failure, error),
    };
    if json {
        let text = serde_json::to_string_pretty(&status).unwrap_or_default();
        return print(&format!("{}\n", OutsideJson(&text)));
    }
    print(&summary(&status.snapshot))
}

/// A snapshot as text for people. Any process may have answered on the port, so every text in it is escaped.
fn summary(snapshot: &Snapshot) -> String {
    let mut lines = vec![
        format!("outpost {} · {:?} · {}", Outside(&snapshot.version), snapshot.phase, Outside(&snapshot.coordinator)),
        format!("provider id   {}", Outside(snapshot.provider_id.as_deref().unwrap_or("none yet"))),
        format!("public key    {}", Outside(&snapshot.pubkey)),
    ];
    if let Some(since) = &snapshot.connected_since {
        lines.push(format!("connected     since {}, connection {}", Outside(since), snapshot.generation));
    }
    if let Some(cause) = &snapshot.last_disconnect {
        lines.push(format!("last end      {}", Outside(cause)));
    }
    let (failed, refused) = (sum(&snapshot.jobs.failed), sum(&snapshot.jobs.refused));
    lines.push(format!(
        "jobs          {} running, {} done, {failed} failed, {} cancelled, {refused} refused",
        snapshot.in_flight, snapshot.jobs.done, snapshot.jobs.cancelled
    ));
    lines.push(format!("tokens        {} in, {} out", snapshot.tokens.input, snapshot.tokens.output));
    for (name, backend) in &snapshot.backends {
        let models: Vec<String> = backend.models.iter().map(|model| Outside(model.as_str()).to_string()).collect();
        let cause = Outside(backend.cause.as_deref().unwrap_or_default()).to_string();
        let (state, details) = if backend.up { ("up", models.join(", ")) } else { ("down", cause) };
        lines.push(format!("backend       {} {state}: {details}", Outside(name)));
    }
    lines.join("\n") + "\n"
}

fn sum(by_code: &std::collections::BTreeMap<String, u64>) -> u64 {
    by_code.values().fold(0, |sum, count| sum.saturating_add(*count))
}

fn identity(env: &dyn Environment) -> ExitStatus {
    let path = match AgentConfig::identity_path_from_env(env) {
        Ok(path) => path,
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    match Identity::load(&path) {
        Ok(identity) => {
            let provider = identity.provider_id().map_or_else(|| "none yet".to_owned(), |id| id.to_string());
            print(&format!("public key   {}\nprovider id  {provider}\n", identity.pubkey_base64()))
        }
        Err(error) => fail(ExitStatus::Identity, error),
    }
}

fn conformance(url: &str, own_key: bool, env: &dyn Environment) -> ExitStatus {
    start_log(env, "error");
    let url = MapEnvironment::from([("OUTPOST_COORDINATOR_URL", url)]);
    let config = match AgentConfig::from_env(&Layered { upper: &url, lower: env }) {
        Ok((config, _)) => config,
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    let identity = match own_key.then(|| Identity::load(&config.identity_path)).transpose() {
        Ok(identity) => identity,
        Err(error) => return fail(ExitStatus::Identity, error),
    };
    on_system(app::check_conformance(&config, identity, &mut io::stdout()))
        .unwrap_or_else(|error| fail(error.exit_status(), error))
}

fn configuration(command: &ConfigCommand, env: &dyn Environment) -> ExitStatus {
    match command {
        ConfigCommand::Print { example: Some(Example::Agent) } => print(&config::example_agent()),
        ConfigCommand::Print { example: Some(Example::Coordinator) } => print(&config::example_coordinator()),
        ConfigCommand::Check | ConfigCommand::Print { example: None } => {
            let (config, warnings) = match AgentConfig::from_env(env) {
                Ok(read) => read,
                Err(report) => return fail(ExitStatus::Configuration, report),
            };
            for warning in warnings {
                say(&mut io::stderr(), format_args!("warning: {warning}\n"));
            }
            if matches!(command, ConfigCommand::Check) {
                return print("the configuration is good\n");
            }
            match config::print_effective(&config, &LogConfig::from_env(env), &mut io::stdout()) {
                Ok(()) => ExitStatus::Success,
                Err(error) => fail(ExitStatus::Failure, error),
            }
        }
    }
}

/// Reads the agent's configuration and logs what is odd about it.
fn agent_config(env: &dyn Environment) -> Result<AgentConfig, Report> {
    let (config, warnings) = AgentConfig::from_env(env)?;
    warn(&warnings);
    Ok(config)
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// Starts the log; `level` holds where the operator says nothing.
fn start_log(env: &dyn Environment, level: &str) {
    let default = MapEnvironment::from([("RUST_LOG", level)]);
    telemetry::log::init(&LogConfig::from_env(&Layered { upper: env, lower: &default }));
}

fn on_system<T>(work: impl Future<Output = T>) -> T {
    let system = actix::System::new();
    let done = system.block_on(work);
    // Dropping the runtime waits for its blocking threads, and one may hang in a name lookup or a dead file system. The
    // process is about to end, and they with it.
    std::mem::forget(system);
    done
}

fn print(text: &str) -> ExitStatus {
    say(&mut io::stdout(), format_args!("{text}"));
    ExitStatus::Success
}

fn fail(status: ExitStatus, error: impl Display) -> ExitStatus {
    say(&mut io::stderr(), format_args!("outpost: {error}\n"));
    status
}

/// Writes to a terminal that may be gone.
fn say(out: &mut dyn Write, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    let _ = out.flush();
}
