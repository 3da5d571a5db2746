//! `outpost completions`: a completion script.

use std::io;

use clap::Args;
use clap_complete::Shell;

use crate::app::ExitStatus;

#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints the script for a command line.
pub(super) fn run(Completions { shell }: &Completions, mut command_line: clap::Command) -> ExitStatus {
    clap_complete::generate(*shell, &mut command_line, "outpost", &mut io::stdout());
    ExitStatus::Success
}
