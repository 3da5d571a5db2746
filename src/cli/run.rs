//! `outpost run`: the agent.

use super::process::{fail, log_warnings, on_system, start_log};
use crate::app::{self, ExitStatus};
use crate::config::{AgentConfig, Environment};

pub(super) fn run(env: &dyn Environment) -> ExitStatus {
    start_log(env, "info");
    let (config, warnings) = match AgentConfig::from_env(env) {
        Ok(read) => read,
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    log_warnings(&warnings);
    on_system(app::run(config)).unwrap_or_else(|error| fail(error.exit_status(), error))
}
