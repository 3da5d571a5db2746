//! A job from the view of its submitter and its driver.

use std::ops::Deref;
use std::rc::Rc;

use super::super::{Progress, Work};
use crate::core::scheduling::estimate::Outline;
use crate::core::session::delivery::Delivery;
use crate::messages::ids::{Generation, JobId};
use crate::messages::wire::{FromCoordinator, JobFrame};

/// A request, with the places of its members as they are noted on receipt. Clones share it.
#[derive(Clone)]
pub(super) struct Request(Rc<JobFrame>);

impl Request {
    pub(super) fn new(text: &str) -> Self {
        let id = JobId::random();
        let frame = format!(r#"{{"type":"job","job_id":"{id}","model_id":"m","request":{text}}}"#);
        let Ok(FromCoordinator::Job(job)) = FromCoordinator::parse(&frame.into()) else { panic!("not a job") };
        Self(Rc::new(job))
    }
}

/// The driver's part of a job: the number of its submission, and its request.
pub(super) struct Prompt {
    pub(super) submission: usize,
    pub(super) request: Request,
    pub(super) progress: Progress,
    pub(super) delivery: Delivery,
}

impl Work for Prompt {
    fn outline(&self) -> Option<Outline<'_>> {
        Outline::of(&self.request.0.request, &self.request.0.members).ok()
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn acknowledge(&mut self, offset: u64) {
        self.delivery.acknowledge(offset);
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

/// All submissions, in their order.
#[derive(Default)]
pub(super) struct Submissions {
    all: Vec<Submission>,
    /// The places of those that are open: few of many.
    open: Vec<usize>,
}

impl Submissions {
    /// Adds an open one. Returns its place.
    pub(super) fn add(&mut self, id: JobId, generation: Generation) -> usize {
        let place = self.all.len();
        self.all.push(Submission { id, generation, fate: Fate::Open, returned: false });
        self.open.push(place);
        place
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Submission> {
        self.open.iter().map(|place| &self.all[*place])
    }

    /// The router did not accept it.
    pub(super) fn refused(&mut self, place: usize) {
        self.all[place].fate = Fate::Refused;
        self.open.retain(|open| *open != place);
    }

    /// The first open one of this job ends.
    pub(super) fn ended(&mut self, job: JobId) {
        let first = self.open.iter().position(|place| self.all[*place].id == job);
        let place = self.open.remove(first.expect("ONE-TERMINAL: a job ends that has ended"));
        self.all[place].fate = Fate::Ended;
    }

    pub(super) fn returned(&mut self, place: usize) {
        assert!(!std::mem::replace(&mut self.all[place].returned, true), "a job's work is handed back twice");
    }
}

impl Deref for Submissions {
    type Target = [Submission];

    fn deref(&self) -> &[Submission] {
        &self.all
    }
}
