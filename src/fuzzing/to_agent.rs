//! The frames that a coordinator sends, as the agent reads them.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::input::Input;
use crate::core::json::walk;
use crate::core::scheduling::estimate::Outline;
use crate::messages::wire::{Extensions, FromCoordinator, JobFrame, LONGEST_MODEL_ID, NamedPath};

pub fn check(input: &[u8]) {
    let frame = Bytes::copy_from_slice(Input::new(input).rest());
    let Ok(read) = FromCoordinator::parse(&frame) else { return };
    if let FromCoordinator::Job(job) = &read {
        is_bounded(job, &frame);
    }
    let text = match serde_json::to_vec(&read) {
        Ok(text) => Bytes::from(text),
        Err(error) => panic!("a frame that was read can be written: {error}"),
    };
    let again = FromCoordinator::parse(&text);
    match (read, again.unwrap()) {
        (FromCoordinator::MalformedJob(job), FromCoordinator::MalformedJob(again)) => {
            assert_eq!(job.job_id.as_str(), again.job_id.as_str());
        }
        // What has no meaning is not written.
        (FromCoordinator::Job(job), FromCoordinator::Job(again))
            if job.target.path == NamedPath::Unknown || job.target.form.is_none() =>
        {
            assert!(job.requested(Extensions::all()).is_err());
            assert_eq!(JobFrame { target: again.target, ..job }, again);
        }
        (read, again) => assert_eq!(read, again),
    }
}

/// A job has a model and a request that is one JSON object, whose members are where they were noted.
fn is_bounded(job: &JobFrame, frame: &Bytes) {
    assert!((1..=LONGEST_MODEL_ID).contains(&job.model_id.as_str().len()) && !job.deadline.is_zero());
    assert!(frame.as_ptr_range().contains(&job.request.as_ptr()) && job.request.len() < frame.len());
    serde_json::from_slice::<IgnoredAny>(&job.request).unwrap();
    let (mut noted, mut walked) = (Vec::new(), Vec::new());
    job.members.walk(&job.request, |key, value| noted.push((key, value))).unwrap();
    walk(&job.request, |key, value| walked.push((key, value))).unwrap();
    assert_eq!(noted, walked);
    let requested = job.requested(Extensions::all());
    assert!(job.requested(Extensions::NONE).is_ok());
    let (Ok(outline), Ok((endpoint, _))) = (Outline::of(&job.request, &job.members), requested) else { return };
    let estimate = outline.estimate(endpoint, Some(4096));
    assert!(estimate.answers() >= 1 || estimate.answer == 0);
}
