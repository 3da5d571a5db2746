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
    let mut upper = MapEnvironment::from([("OUTPOST_COORDINATOR_URL", url.as_str())]);
    let configured = env.get("OUTPOST_COORDINATOR_URL").ok().flatten();
    if configured.is_some_and(|urls| urls.contains(',')) {
        // A list of codes, which are not all for this coordinator.
        upper.set("OUTPOST_ENROLLMENT_CODE", String::new());
        upper.set("OUTPOST_ENROLLMENT_CODE_FILE", String::new());
    }
    let config = match AgentConfig::from_env(&Layered { upper: &upper, lower: env }) {
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
    let [site] = &config.coordinators[..] else {
        return fail(ExitStatus::Configuration, "one coordinator can be checked at a time");
    };
    on_system(app::check_conformance(&config, site, identity, &mut io::stdout()))
        .unwrap_or_else(|error| fail(error.exit_status(), error))
}
