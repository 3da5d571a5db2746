//! A simulated server: its true state, and what it does with a job.

use std::time::Instant;

use crate::core::scheduling::catalog::BackendPolicy;
use crate::messages::cause::Cause;
use crate::messages::discovery::BackendReport;
use crate::messages::jobs::{Blame, Evidence, Failure, Outcome};
use crate::messages::wire::{ErrorCode, Tokens};

/// What a server does with a job when it is about to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Answers,
    /// Begins its answer and breaks off.
    BreaksOff,
    /// Does not answer yet.
    Stalls,
    TakesNoConnection,
    Crashes,
    Answers503,
    Answers429,
    Answers400,
    /// 404: it does not have the model, although it listed it.
    LacksModel,
}

/// The true state of a server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) report: BackendReport,
    pub(super) policy: BackendPolicy,
    pub(super) slots: u32,
    pub(super) up: bool,
    pub(super) mood: Mood,
    pub(super) foreign: u32,
    /// Until when cancelled jobs use a slot.
    pub(super) held: Vec<Instant>,
    /// When the last job left it.
    pub(super) left: Option<Instant>,
    pub(super) known: Known,
    /// When it last reported its load.
    pub(super) reported: Option<Instant>,
}

/// How exactly the router can know a server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Exactly.
    Exactly,
    /// Not before the next unambiguous report.
    Later,
    /// It worked on a cancelled job for longer than the router waits, or works on one and does not report its load.
    Never,
}

/// What a server does with a job.
pub(super) enum Answer {
    NotYet,
    /// It begins its answer, which ends so.
    Begins(Outcome),
    /// It fails the job, which may be retried on another backend.
    Fails {
        failure: Failure,
        elsewhere: bool,
    },
}

impl Server {
    pub(super) fn answer(&self) -> Answer {
        let cause = Cause::BackendError;
        let failure = |code, blame, evidence, probe| Failure { cause, code, blame, evidence, probe };
        let fails = |code, blame, evidence, probe, elsewhere| Answer::Fails {
            failure: failure(code, blame, evidence, probe),
            elsewhere,
        };
        let unreachable = ErrorCode::BackendUnreachable;
        match self.mood {
            Mood::Stalls => Answer::NotYet,
            Mood::TakesNoConnection => fails(unreachable, Blame::Backend, Evidence::Backend, true, true),
            _ if !self.up => fails(unreachable, Blame::Backend, Evidence::Backend, true, true),
            Mood::Answers => Answer::Begins(Outcome::Done { tokens: Tokens::new(20, 10) }),
            Mood::BreaksOff => {
                let broken = failure(ErrorCode::Internal, Blame::Backend, Evidence::Crash, true);
                Answer::Begins(Outcome::Failed(broken))
            }
            Mood::Crashes => fails(unreachable, Blame::Unclear, Evidence::Crash, true, true),
            Mood::Answers503 => fails(ErrorCode::Internal, Blame::Backend, Evidence::Overload, true, true),
            Mood::Answers429 => fails(ErrorCode::Internal, Blame::Operator, Evidence::Nothing, false, true),
            Mood::Answers400 => fails(ErrorCode::Internal, Blame::Caller, Evidence::Nothing, false, false),
            Mood::LacksModel => fails(ErrorCode::ModelNotLoaded, Blame::Caller, Evidence::Nothing, true, true),
        }
    }
}
