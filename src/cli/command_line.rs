//! The entry point: parses the command line, and runs the command that it names.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::process::fail;
use super::{completions, config, conformance, coordinator, dev, identity, pause, run, status, usage};
use crate::app::{self, ExitStatus};
use crate::config::{AgentConfig, Environment, Layered, ProcessEnvironment, Scope, help_text, read_env_file};
use crate::telemetry;

#[derive(Parser)]
#[command(name = "outpost", version, about, after_long_help = help_text(&Scope::ALL))]
struct CommandLine {
    /// Read variables from this file too (systemd EnvironmentFile format); the process environment takes precedence
    #[arg(long, value_name = "PATH", global = true)]
    env_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent (the default)
    #[command(after_long_help = help_text(&[Scope::Agent, Scope::Every]))]
    Run,
    /// Run a coordinator and an agent together on this machine, with the backends that it finds, or with a built-in echo
    Dev(dev::Dev),
    /// Run a coordinator alone, for a small fleet
    Coordinator(coordinator::Coordinator),
    /// Show the status of the agent that runs on this machine
    Status(status::Status),
    /// Open the page of the agent on this machine in a browser, with its switches
    Open,
    /// Pause the agent on this machine: it stays connected, offers nothing, and finishes what it has
    Pause(pause::Pause),
    /// End the pause of the agent on this machine
    Resume,
    /// Show what was worked and earned, from the ledger of the agent on this machine
    Usage(usage::Usage),
    /// Show the public key and the provider id
    Identity,
    /// Play an agent against a coordinator and print which rules of the protocol it violates
    Conformance(conformance::Conformance),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(config::Config),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Runs the command line of this process.
pub fn main() -> ExitStatus {
    // Before any secret is read.
    app::allow_dumps(false);
    // Before any client is made: the TLS library wants one process-wide provider. An error means that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(message) => {
            // Nothing can be done about a closed terminal.
            let _ = message.print();
            return if message.use_stderr() { ExitStatus::Configuration } else { ExitStatus::Success };
        }
    };
    let process = ProcessEnvironment::read();
    let file = match line.env_file.as_deref().map(read_env_file).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(error) => return fail(ExitStatus::Configuration, error),
    };
    let env = Layered { upper: &process, lower: &file };
    app::allow_dumps(AgentConfig::allow_dumps_from_env(&env));
    let status = dispatch(line.command.unwrap_or(Command::Run), &env);
    telemetry::log::finish();
    status
}

fn dispatch(command: Command, env: &dyn Environment) -> ExitStatus {
    match command {
        Command::Run => run::run(env),
        Command::Dev(options) => dev::run(options, env),
        Command::Coordinator(options) => coordinator::run(options, env),
        Command::Status(options) => status::run(&options, env),
        Command::Open => pause::open(env),
        Command::Pause(options) => pause::pause(&options, env),
        Command::Resume => pause::resume(env),
        Command::Usage(options) => usage::run(&options, env),
        Command::Identity => identity::run(env),
        Command::Conformance(options) => conformance::run(&options, env),
        Command::Config(command) => config::run(&command, env),
        Command::Completions(options) => completions::run(&options, CommandLine::command()),
    }
}
