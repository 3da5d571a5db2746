//! `outpost config`: checks or prints the configuration.

use std::io;

use clap::{Subcommand, ValueEnum};

use super::process::{fail, print, write};
use crate::app::ExitStatus;
use crate::config::{self, AgentConfig, Environment, LogConfig};

#[derive(Subcommand)]
pub(super) enum Config {
    /// Check the agent's configuration and report all errors at once
    Check,
    /// Print the configuration in effect, or an example file
    Print {
        /// Print the example file for this instead
        #[arg(long, value_enum)]
        example: Option<Example>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Example {
    /// The agent
    Agent,
    /// The coordinator
    Coordinator,
}

pub(super) fn run(command: &Config, env: &dyn Environment) -> ExitStatus {
    match command {
        Config::Print { example: Some(Example::Agent) } => print(&config::example_agent()),
        Config::Print { example: Some(Example::Coordinator) } => print(&config::example_coordinator()),
        Config::Check | Config::Print { example: None } => {
            let (config, warnings) = match AgentConfig::from_env(env) {
                Ok(read) => read,
                Err(report) => return fail(ExitStatus::Configuration, report),
            };
            for warning in warnings {
                write(&mut io::stderr(), format_args!("warning: {warning}\n"));
            }
            if matches!(command, Config::Check) {
                return print("the configuration is good\n");
            }
            match config::print_effective(&config, &LogConfig::from_env(env), &mut io::stdout()) {
                Ok(()) => ExitStatus::Success,
                Err(error) => fail(ExitStatus::Failure, error),
            }
        }
    }
}
