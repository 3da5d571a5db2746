//! Reads a frame in one pass without copies: the fields of all types of frames are recorded as slices of the received bytes,
//! then the type decides which of them count. A prompt is never parsed here.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::core::json::{Malformed, Members, Scanner, salvage};
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::{JobId, ModelId};
use crate::messages::wire::{
    AuthOk, EXTENSION_TIMES, Extensions, FromCoordinator, JobFrame, JobTarget, LONGEST_MODEL_ID, MalformedJob, Taken,
};

/// The deadline of a job without one, or whose deadline is not an integer of at least 1.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// The longest list of wanted jobs that is read, in bytes. A list of the 4,096 jobs that an agent may keep is not half as long.
const LONGEST_LIST: usize = 1 << 20;

/// Why a text frame can't be read. Never holds any of the frame's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, or not a JSON object.
    #[error("not a JSON object")]
    NotAnObject,
    /// No `type`, or one that is not a string.
    #[error("no readable type")]
    NoType,
    /// A job or a cancel without a readable id.
    #[error("no readable job_id")]
    NoJobId,
    /// A field whose type differs from the protocol's.
    #[error("{0} has the wrong type")]
    WrongType(&'static str),
}

impl FromCoordinator {
    /// Reads one text frame.
    pub fn parse(frame: &Bytes) -> Result<Self, FrameError> {
        let is_utf8 = simdutf8::basic::from_utf8(frame).is_ok();
        let Some(fields) = is_utf8.then(|| Fields::read(frame)).and_then(Result::ok) else {
            return Self::parse_broken(frame);
        };
        let kind = fields.kind.and_then(text).ok_or(FrameError::NoType)?;
        Ok(match kind.as_ref() {
            "auth_challenge" => {
                let nonce = fields.nonce.and_then(text).map(Cow::into_owned).unwrap_or_default();
                Self::AuthChallenge { nonce, extensions: fields.extensions() }
            }
            "auth_ok" => Self::AuthOk(AuthOk {
                provider_id: optional(fields.provider_id, "provider_id")?,
                session: fields.session.and_then(text).and_then(|name| name.parse().ok()),
                resume_window: fields.resume_window_ms.and_then(extension_time),
                resumed: fields.resumed == Some(b"true"),
                jobs: fields
                    .jobs
                    .filter(|raw| raw.len() <= LONGEST_LIST)
                    .and_then(|raw| serde_json::from_slice(raw).ok()),
            }),
            "auth_failed" => Self::AuthFailed { reason: optional(fields.reason, "reason").unwrap_or_default() },
            "job" => {
                let job_id = fields.job_id()?;
                match fields.job(job_id, frame) {
                    Ok(job) => Self::Job(job),
                    Err(why) => Self::MalformedJob(MalformedJob { job_id, why }),
                }
            }
            "job_cancel" => Self::JobCancel { job_id: fields.job_id()? },
            "ack" => Self::Ack { job_id: fields.job_id()?, taken: fields.taken()? },
            "handover" => Self::Handover { deadline: fields.deadline_ms.and_then(extension_time) },
            _ => Self::Unknown { kind: kind.into_owned() },
        })
    }

    /// Reads a frame that is not JSON or nests too deeply. The only one that is still of use is a job with a readable id:
    /// the coordinator waits for its end.
    fn parse_broken(frame: &Bytes) -> Result<Self, FrameError> {
        let (mut is_job, mut job_id) = (false, None);
        salvage(frame, |key, value| match text(key).as_deref() {
            Some("type") => is_job = text(value).map_or(is_job, |kind| kind == "job"),
            Some("job_id") => job_id = readable_id(value).or(job_id),
            _ => {}
        });
        let job_id = job_id.filter(|_| is_job).ok_or(FrameError::NotAnObject)?;
        Ok(Self::MalformedJob(MalformedJob { job_id, why: "the frame is not a JSON object, or nests too deeply" }))
    }
}

/// The fields of any frame, unparsed. If a key occurs twice, the last one counts; of `type` and `job_id`, without which a
/// job can't be answered, the last readable one.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
    extensions: Option<&'a [u8]>,
    provider_id: Option<&'a [u8]>,
    reason: Option<&'a [u8]>,
    job_id: Option<&'a [u8]>,
    model_id: Option<&'a [u8]>,
    request: Option<&'a [u8]>,
    members: Members,
    format: Option<&'a [u8]>,
    deadline_ms: Option<&'a [u8]>,
    endpoint: Option<&'a [u8]>,
    stream: Option<&'a [u8]>,
    session: Option<&'a [u8]>,
    resume_window_ms: Option<&'a [u8]>,
    resumed: Option<&'a [u8]>,
    jobs: Option<&'a [u8]>,
    offset: Option<&'a [u8]>,
    is_final: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn job_id(&self) -> Result<JobId, FrameError> {
        self.job_id.and_then(readable_id).ok_or(FrameError::NoJobId)
    }

    fn taken(&self) -> Result<Taken, FrameError> {
        if self.is_final == Some(b"true") {
            return Ok(Taken::Terminal);
        }
        let offset = self.offset.and_then(|raw| serde_json::from_slice(raw).ok());
        offset.map(Taken::Bytes).ok_or(FrameError::WrongType("offset"))
    }

    fn extensions(&self) -> Extensions {
        self.extensions.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default()
    }

    fn job(&self, job_id: JobId, frame: &Bytes) -> Result<JobFrame, &'static str> {
        let model = self.model_id.and_then(text).ok_or("model_id is missing or not a string")?;
        if model.is_empty() || model.len() > LONGEST_MODEL_ID {
            return Err("model_id is empty or too long");
        }
        let request = self.request.ok_or("request is missing")?;
        if !request.starts_with(b"{") {
            return Err("request is not an object");
        }
        let endpoint = match self.format.map(text) {
            None => Endpoint::ChatCompletions,
            Some(Some(name)) if name == "anthropic" => Endpoint::Messages,
            Some(_) => Endpoint::ChatCompletions,
        };
        let deadline = self
            .deadline_ms
            .and_then(|raw| serde_json::from_slice::<u64>(raw).ok())
            .filter(|ms| *ms >= 1)
            .map_or(DEFAULT_DEADLINE, Duration::from_millis);
        let model_id = ModelId::from(model.as_ref());
        let target = JobTarget::read(self.endpoint, self.stream);
        let (request, members) = (frame.slice_ref(request), self.members.clone());
        Ok(JobFrame { job_id, model_id, request, members, endpoint, deadline, target })
    }

    fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        let mut scanner = Scanner::new(frame);
        scanner.object(|scanner, key| {
            let key = text(key);
            // The places of the members are recorded in the same pass: a prompt of megabytes is scanned once.
            if key.as_deref() == Some("request") && scanner.peek() == Some(b'{') {
                let from = scanner.position();
                fields.members = Members::note(scanner, frame)?;
                fields.request = frame.get(from..scanner.position());
                return Ok(());
            }
            let value = scanner.value()?;
            let is_lost = match key.as_deref() {
                Some("type") => fields.kind.is_some() && text(value).is_none(),
                Some("job_id") => fields.job_id.is_some() && readable_id(value).is_none(),
                _ => false,
            };
            if is_lost {
                return Ok(());
            }
            let field = match key.as_deref().unwrap_or_default() {
                "type" => &mut fields.kind,
                "nonce" => &mut fields.nonce,
                "extensions" => &mut fields.extensions,
                "provider_id" => &mut fields.provider_id,
                "reason" => &mut fields.reason,
                "job_id" => &mut fields.job_id,
                "model_id" => &mut fields.model_id,
                "request" => &mut fields.request,
                "format" => &mut fields.format,
                "deadline_ms" => &mut fields.deadline_ms,
                "endpoint" => &mut fields.endpoint,
                "stream" => &mut fields.stream,
                "session" => &mut fields.session,
                "resume_window_ms" => &mut fields.resume_window_ms,
                "resumed" => &mut fields.resumed,
                "jobs" => &mut fields.jobs,
                "offset" => &mut fields.offset,
                "final" => &mut fields.is_final,
                _ => return Ok(()),
            };
            *field = Some(value);
            Ok(())
        })?;
        scanner.end()?;
        Ok(fields)
    }
}

/// A whole number of milliseconds within [`EXTENSION_TIMES`].
fn extension_time(raw: &[u8]) -> Option<Duration> {
    let time = serde_json::from_slice(raw).ok().map(Duration::from_millis)?;
    EXTENSION_TIMES.contains(&time).then_some(time)
}

fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice::<BorrowedText<'_>>(raw).ok().map(|text| text.0)
}

fn readable_id(raw: &[u8]) -> Option<JobId> {
    text(raw)?.parse().ok()
}

#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// A string, `None` if the field is missing or null.
fn optional(raw: Option<&[u8]>, name: &'static str) -> Result<Option<String>, FrameError> {
    match raw {
        None => Ok(None),
        Some(raw) if raw == b"null" => Ok(None),
        Some(raw) => text(raw).map(|text| Some(text.into_owned())).ok_or(FrameError::WrongType(name)),
    }
}
