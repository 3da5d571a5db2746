//! `outpost coordinator`: the coordinator alone.

use std::net::SocketAddr;

use clap::Args;

use super::process::{fail, log_warnings, on_system, start_log};
use crate::app::{self, ExitStatus};
use crate::config::{CoordinatorConfig, Environment, Scope, help_text};
use crate::coordinator::{self, CoordinatorError};

#[derive(Args)]
#[command(after_long_help = help_text(&[Scope::Coordinator, Scope::Every]))]
pub(super) struct Coordinator {
    /// Where to listen, instead of OUTPOST_COORDINATOR_LISTEN; port 0 picks one. Beyond loopback it needs
    /// OUTPOST_COORDINATOR_API_KEY, and OUTPOST_COORDINATOR_ENROLLMENT_CODE or OUTPOST_COORDINATOR_AGENT_KEYS
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(Coordinator { listen }: Coordinator, env: &dyn Environment) -> ExitStatus {
    start_log(env, "info");
    let (config, warnings) = match CoordinatorConfig::from_env(env) {
        Ok(read) => read,
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    log_warnings(&warnings);
    let config = CoordinatorConfig {
        listen: listen.unwrap_or(config.listen),
        max_connections: app::open_connections(config.max_connections),
        ..config
    };
    on_system(async {
        match coordinator::bind(config) {
            Ok(server) => app::serve(server).await.unwrap_or_else(|error| fail(ExitStatus::Failure, error)),
            Err(error @ CoordinatorError::Bind { .. }) => fail(ExitStatus::Failure, error),
            Err(error) => fail(ExitStatus::Configuration, error),
        }
    })
}
