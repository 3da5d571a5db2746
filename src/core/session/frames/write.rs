//! Writes the frames of a coordinator.

use serde::Serialize;
use serde::ser::{Error, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::messages::endpoint::AnswerForm;
use crate::messages::wire::{FromCoordinator, JobTarget, NamedPath, Taken};

/// Writes the frame. A variant that only a receiver makes is written as the frame that was received.
impl Serialize for FromCoordinator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::AuthChallenge { nonce, extensions } => {
                map.serialize_entry("type", "auth_challenge")?;
                map.serialize_entry("nonce", nonce)?;
                if !extensions.is_empty() {
                    map.serialize_entry("extensions", extensions)?;
                }
            }
            Self::AuthOk(ok) => {
                map.serialize_entry("type", "auth_ok")?;
                if let Some(id) = &ok.provider_id {
                    map.serialize_entry("provider_id", id)?;
                }
                if let Some(session) = &ok.session {
                    map.serialize_entry("session", session)?;
                }
                if let Some(window) = ok.resume_window {
                    map.serialize_entry("resume_window_ms", &window.as_millis())?;
                }
                if ok.resumed {
                    map.serialize_entry("resumed", &true)?;
                }
                if let Some(jobs) = &ok.jobs {
                    map.serialize_entry("jobs", jobs)?;
                }
            }
            Self::AuthFailed { reason } => {
                map.serialize_entry("type", "auth_failed")?;
                if let Some(reason) = reason {
                    map.serialize_entry("reason", reason)?;
                }
            }
            Self::Job(job) => {
                let request: &RawValue = serde_json::from_slice(&job.request).map_err(S::Error::custom)?;
                map.serialize_entry("type", "job")?;
                map.serialize_entry("job_id", &job.job_id)?;
                map.serialize_entry("model_id", &job.model_id)?;
                map.serialize_entry("format", &job.endpoint.format())?;
                map.serialize_entry("deadline_ms", &job.deadline.as_millis())?;
                if let NamedPath::Known(endpoint) = job.target.path {
                    map.serialize_entry("endpoint", endpoint.path())?;
                }
                if job.target != JobTarget::BASE {
                    map.serialize_entry("stream", &(job.target.form != Some(AnswerForm::Whole)))?;
                }
                map.serialize_entry("request", request)?;
            }
            Self::MalformedJob(job) => {
                map.serialize_entry("type", "job")?;
                map.serialize_entry("job_id", &job.job_id)?;
            }
            Self::JobCancel { job_id } => {
                map.serialize_entry("type", "job_cancel")?;
                map.serialize_entry("job_id", job_id)?;
            }
            Self::Ack { job_id, taken } => {
                map.serialize_entry("type", "ack")?;
                map.serialize_entry("job_id", job_id)?;
                match taken {
                    Taken::Bytes(offset) => map.serialize_entry("offset", offset)?,
                    Taken::Terminal => map.serialize_entry("final", &true)?,
                }
            }
            Self::Handover { deadline } => {
                map.serialize_entry("type", "handover")?;
                if let Some(deadline) = deadline {
                    map.serialize_entry("deadline_ms", &deadline.as_millis())?;
                }
            }
            Self::Unknown { kind } => map.serialize_entry("type", kind)?,
        }
        map.end()
    }
}
