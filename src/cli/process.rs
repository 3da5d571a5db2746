//! What the commands share: the log, the actor system, and output to a terminal.

use std::fmt::{Arguments, Display};
use std::future::Future;
use std::io::{self, Write};

use crate::app::ExitStatus;
use crate::config::{Environment, Layered, LogConfig, MapEnvironment, Warning};
use crate::telemetry;

/// Starts the log; `level` is used where the operator sets none.
pub(super) fn start_log(env: &dyn Environment, level: &str) {
    let default = MapEnvironment::from([("RUST_LOG", level)]);
    telemetry::log::init(&LogConfig::from_env(&Layered { upper: env, lower: &default }));
}

/// Logs what is odd about a configuration.
pub(super) fn log_warnings(warnings: &[Warning]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// Runs a future on an actor system of its own.
pub(super) fn on_system<T>(work: impl Future<Output = T>) -> T {
    let system = actix::System::new();
    let done = system.block_on(work);
    // Dropping the runtime waits for its blocking threads, and one may hang in a name lookup or a dead file system. The
    // process is about to end, and they with it.
    std::mem::forget(system);
    done
}

/// Writes the result of a command to stdout.
pub(super) fn print(text: &str) -> ExitStatus {
    write(&mut io::stdout(), format_args!("{text}"));
    ExitStatus::Success
}

/// Writes an error to stderr, and gives the exit status back.
pub(super) fn fail(status: ExitStatus, error: impl Display) -> ExitStatus {
    write(&mut io::stderr(), format_args!("outpost: {error}\n"));
    status
}

/// Writes to a terminal that may be gone.
pub(super) fn write(out: &mut dyn Write, text: Arguments<'_>) {
    let _ = out.write_fmt(text);
    let _ = out.flush();
}
