//! `outpost pause`, `outpost resume` and `outpost open`: the operator's switches, which need the token of the agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;

use super::process::{fail, on_system, print};
use crate::app::{self, ExitStatus};
use crate::config::{AgentConfig, Environment, StatusAddr};
use crate::messages::secret::Secret;
use crate::status::{self, Order};
use crate::transport::tcp::reachable;

#[derive(Args)]
pub(super) struct Pause {
    /// How long, such as 30m or 2h; without it until `outpost resume`
    #[arg(value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

/// The agent on this machine, as its user knows it.
struct Agent {
    addr: SocketAddr,
    identity: PathBuf,
    token: Secret,
}

impl Agent {
    fn find(env: &dyn Environment) -> Result<Self, ExitStatus> {
        let addr = match StatusAddr::from_env(env) {
            Ok(StatusAddr::On { addr, .. }) => addr,
            Ok(StatusAddr::Off) => {
                let off = "OUTPOST_STATUS_ADDR is off: the agent takes no orders";
                return Err(fail(ExitStatus::Failure, off));
            }
            Err(report) => return Err(fail(ExitStatus::Configuration, report)),
        };
        let identity = match AgentConfig::identity_path_from_env(env) {
            Ok(path) => path,
            Err(report) => return Err(fail(ExitStatus::Configuration, report)),
        };
        let file = app::token_path(&identity);
        match status::read_token(&file) {
            Ok(token) => Ok(Self { addr: reachable(addr), identity, token }),
            Err(error) => {
                let advice = "is the agent running, and are you its user, with its OUTPOST_IDENTITY_PATH?";
                Err(fail(ExitStatus::Failure, format_args!("no token in {}: {error}; {advice}", file.display())))
            }
        }
    }

    fn give(&self, order: Order) -> ExitStatus {
        match on_system(status::give_order(self.addr, &self.token, order)) {
            Ok(()) => ExitStatus::Success,
            Err(error) => fail(ExitStatus::Failure, error),
        }
    }
}

pub(super) fn pause(Pause { time }: &Pause, env: &dyn Environment) -> ExitStatus {
    let agent = match Agent::find(env) {
        Ok(agent) => agent,
        Err(status) => return status,
    };
    // A pause of half a second is one of a second.
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    match agent.give(Order::Pause { seconds }) {
        ExitStatus::Success => print("paused: nothing is offered, and running jobs go on; `outpost resume` ends it\n"),
        failed => failed,
    }
}

pub(super) fn resume(env: &dyn Environment) -> ExitStatus {
    match Agent::find(env) {
        Err(status) => status,
        Ok(agent) => match agent.give(Order::Resume) {
            ExitStatus::Success => print("the agent offers its models again\n"),
            failed => failed,
        },
    }
}

/// Opens the page in a browser. The token is in a file that only this user can read and that leads there: in the arguments of the
/// browser every user of the machine could read it.
pub(super) fn open(env: &dyn Environment) -> ExitStatus {
    let agent = match Agent::find(env) {
        Ok(agent) => agent,
        Err(status) => return status,
    };
    let url = format!("http://{}/#token={}", agent.addr, agent.token.reveal());
    let file = app::doorway_path(&agent.identity);
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>outpost</title><meta http-equiv=\"refresh\" content=\"0; url={url}\">"
    );
    if let Err(error) = status::write_private(&file, &html) {
        return fail(ExitStatus::Failure, format_args!("{} can't be written: {error}", file.display()));
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started =
        Command::new(opener).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match started {
        Ok(status) if status.success() => print(&format!("opened http://{}/\n", agent.addr)),
        _ => print(&format!(
            "no browser could be started; the page is at http://{}/, and with its switches behind the file {}\n",
            agent.addr,
            file.display()
        )),
    }
}
