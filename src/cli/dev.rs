//! `outpost dev`: a coordinator and an agent in one process.

use std::io;
use std::net::SocketAddr;

use clap::Args;

use super::process::{fail, on_system, start_log};
use crate::app::ExitStatus;
use crate::config::Environment;
use crate::dev::{self, DevOptions};

#[derive(Args)]
pub(super) struct Dev {
    /// Where the coordinator listens, instead of OUTPOST_COORDINATOR_LISTEN; port 0 picks one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Send one chat request, print the response as it arrives, and exit
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

pub(super) fn run(Dev { listen, prompt }: Dev, env: &dyn Environment) -> ExitStatus {
    start_log(env, if prompt.is_some() { "error" } else { "info" });
    let options = DevOptions { listen, prompt };
    on_system(dev::run(options, env, &mut io::stdout())).unwrap_or_else(|error| fail(error.exit_status(), error))
}
