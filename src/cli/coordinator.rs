//! `outpost coordinator`: the coordinator alone.

use std::net::SocketAddr;

use clap::Args;

use super::process::{fail, log_warnings, on_system, start_log};
use crate::app::{self, ExitStatus};
use crate::config::{self, Environment};
use crate::coordinator;

/// Where `coordinator` and `dev` listen by default.
pub(super) const LISTEN: &str = "127.0.0.1:7700";

#[derive(Args)]
pub(super) struct Coordinator {
    /// Where to listen; port 0 picks one. Beyond loopback it needs OUTPOST_COORDINATOR_API_KEY, and
    /// OUTPOST_COORDINATOR_ENROLLMENT_CODE or OUTPOST_COORDINATOR_AGENT_KEYS
    #[arg(long, value_name = "ADDR", default_value = LISTEN)]
    listen: SocketAddr,
}

pub(super) fn run(Coordinator { listen }: Coordinator, env: &dyn Environment) -> ExitStatus {
    start_log(env, "info");
    let own = match config::CoordinatorConfig::from_env(env) {
        Ok((own, warnings)) => {
            log_warnings(&warnings);
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
