//! `outpost conformance`: the checks of a coordinator.

use std::io;

use clap::Args;

use super::process::{fail, on_system, start_log};
use crate::app::{self, ExitStatus};
use crate::config::{AgentConfig, Environment, Layered, MapEnvironment};
use crate::identity::Identity;

#[derive(Args)]
pub(super) struct Conformance {
    /// The coordinator, as in OUTPOST_COORDINATOR_URL
    url: String,
    /// Use the key of the agent on this machine, instead of a new one. A running agent with that key is disconnected
    #[arg(long)]
    own_key: bool,
}

pub(super) fn run(Conformance { url, own_key }: &Conformance, env: &dyn Environment) -> ExitStatus {
    start_log(env, "error");
    let url = MapEnvironment::from([("OUTPOST_COORDINATOR_URL", url.as_str())]);
    let config = match AgentConfig::from_env(&Layered { upper: &url, lower: env }) {
        Ok((config, _)) => config,
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    if *own_key && config.require_auth2 {
        return fail(ExitStatus::Configuration, "--own-key signs bare nonces, which OUTPOST_REQUIRE_AUTH2 forbids");
    }
    let identity = match own_key.then(|| Identity::load(&config.identity_path)).transpose() {
        Ok(identity) => identity,
        Err(error) => return fail(ExitStatus::Identity, error),
    };
    on_system(app::check_conformance(&config, identity, &mut io::stdout()))
        .unwrap_or_else(|error| fail(error.exit_status(), error))
}
