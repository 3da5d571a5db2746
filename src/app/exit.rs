//! Exit codes, one meaning each.

use std::process::{ExitCode, Termination};

/// How the process ended. The codes are those of `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// A clean shutdown.
    Success,
    /// Any other error.
    Failure,
    /// The configuration or the command line is wrong: a restart does not help.
    Configuration,
    /// The identity can't be used: a restart does not help.
    Identity,
    /// A bug: actors ended faster than they could be replaced.
    Bug,
}

impl ExitStatus {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Configuration => 64,
            Self::Identity => 66,
            Self::Bug => 70,
        }
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
