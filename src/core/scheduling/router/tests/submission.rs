//! A job from the view of its submitter and its driver.

use super::super::{Progress, Work};
use crate::core::json::Members;
use crate::core::scheduling::estimate::Outline;
use crate::messages::ids::{Generation, JobId};

/// The driver's part of a job: the number of its submission, and its request.
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

/// The outcome of a submission.
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
    /// Its work was returned.
    pub(super) returned: bool,
}
