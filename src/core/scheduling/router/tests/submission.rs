//! A job as its submitter and its driver know it.

use super::super::{Progress, Work};
use crate::core::json::Members;
use crate::core::scheduling::estimate::Outline;
use crate::messages::ids::{Generation, JobId};

/// The driver's part of a job: which submission it is, and its request.
pub(super) struct Prompt {
    pub(super) submission: usize,
    pub(super) request: String,
    pub(super) progress: Progress,
}

impl Work for Prompt {
    fn outline(&self) -> Option<Outline<'_>> {
        Outline::of(self.request.as_bytes(), &Members::default()).ok()
    }

    fn progress(&self) -> Progress {
        self.progress
    }
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Refused,
    Open,
    Ended,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Submission {
    pub(super) id: JobId,
    pub(super) generation: Generation,
    pub(super) fate: Fate,
    /// Its work was handed back.
    pub(super) returned: bool,
}
