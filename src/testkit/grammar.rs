//! The frames that an agent may send: every frame of every test is checked against the base protocol and the extensions that
//! were agreed on.
//!
//! In addition to the names of types and fields: there is no frame about a job that was not sent on this connection, or
//! after the job's end. Binary chunks follow each other without a gap. The head of a response is in the first chunk of its
//! job only.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::messages::ids::JobId;
use crate::messages::wire::{BinaryChunk, Extension, Extensions};

/// The types that an agent sends and their fields; those with a question mark may be left out.
const TYPES: [(&str, &[&str]); 7] = [
    ("auth_response", &["pubkey", "signature", "agent_version", "enrollment_code?", "client_nonce?"]),
    ("capabilities", &["models", "limits", "metadata"]),
    (
        "heartbeat",
        &[
            "queue_depth",
            "tokens_per_sec_p50",
            "p50_latency_ms",
            "p95_latency_ms",
            "error_rate_60s",
            "last_error_at",
            "last_error_code",
        ],
    ),
    ("job_chunk", &["job_id", "data", "status?", "content_type?"]),
    ("job_done", &["job_id", "tokens", "duration_ms"]),
    ("job_error", &["job_id", "error_code", "message", "tokens_emitted"]),
    ("drain", &["in_flight"]),
];
/// The objects within them.
const WITHIN: [(&str, &str, &[&str]); 4] = [
    (
        "capabilities",
        "models",
        &["model_id", "input_per_1m", "output_per_1m", "max_concurrent", "backend", "context_window?", "endpoints?"],
    ),
    ("capabilities", "limits", &["max_concurrent_total", "max_tokens_per_minute", "max_message_bytes?"]),
    ("capabilities", "metadata", &["agent_version"]),
    ("job_done", "tokens", &["input", "output", "input_tokens", "output_tokens"]),
];

/// Those of the fields above that extensions add, and the objects that have them. They must be there if the extension was agreed
/// on, and must not otherwise.
const EXTENDED: [(Extension, &str, &[&str]); 4] = [
    (Extension::Endpoints, "models", &["endpoints"]),
    (Extension::Endpoints, "job_chunk", &["status", "content_type"]),
    (Extension::Sizes, "limits", &["max_message_bytes"]),
    (Extension::Auth2, "auth_response", &["client_nonce"]),
];

/// The fields of an object, unparsed.
type Fields<'a> = HashMap<&'a str, &'a RawValue>;

/// The jobs that were sent to an agent on one connection, and its frames about them.
#[derive(Default)]
pub(super) struct Grammar {
    jobs: RefCell<HashMap<JobId, Account>>,
    offered: Cell<Extensions>,
    agreed: Cell<Extensions>,
    /// A drain was announced.
    draining: Cell<bool>,
}

#[derive(Default)]
struct Account {
    sent: u32,
    ended: u32,
    silent: bool,
    /// A chunk has come.
    begun: bool,
    /// Bytes of the response that have come.
    received: u64,
}

impl Grammar {
    pub(super) fn sent(&self, job: JobId) {
        self.jobs.borrow_mut().entry(job).or_default().sent += 1;
    }

    /// From now on the agent may use these.
    pub(super) fn offered(&self, extensions: Extensions) {
        self.offered.set(extensions);
    }

    /// A job of an earlier connection goes on here, from that offset.
    pub(super) fn resumed(&self, job: JobId, offset: u64) {
        let account = Account { sent: 1, received: offset, begun: offset > 0, ..Account::default() };
        self.jobs.borrow_mut().insert(job, account);
    }

    /// From now on any frame of this job is a fault.
    pub(super) fn silence(&self, job: JobId) {
        self.jobs.borrow_mut().entry(job).or_default().silent = true;
    }

    /// Checks one text frame of the agent.
    pub(super) fn check(&self, text: &[u8]) -> Result<(), String> {
        let Ok(frame) = serde_json::from_slice::<Fields<'_>>(text) else {
            return Err("the agent sent a text that is not a JSON object".to_owned());
        };
        let Some(kind) = frame.get("type").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok()) else {
            return Err("a frame without a type".to_owned());
        };
        let Some((_, fields)) = TYPES.iter().find(|(name, _)| *name == kind) else {
            return Err(format!("a frame of type {kind}, which the protocol does not have"));
        };
        if kind == "drain" {
            self.check_drain()?;
        }
        let extends = kind == "auth_response" && !self.offered.get().is_empty();
        let resumes = kind == "auth_response" && self.offered.get().contains(Extension::Resume);
        let has_offset = kind == "job_chunk" && self.agreed.get().contains(Extension::Resume);
        let beyond_base = |key: &str| match key {
            "type" => true,
            "extensions" => extends,
            "resume" => resumes,
            "offset" => has_offset,
            _ => false,
        };
        check_fields(&kind, frame.keys().copied().filter(|key| !beyond_base(key)), fields)?;
        if let Some(answer) = frame.get("extensions") {
            self.check_answer(answer.get())?;
        }
        if kind == "auth_response" {
            self.check_extended(&kind, &frame, true)?;
        }
        self.check_within(&kind, &frame)?;
        match frame.get("job_id") {
            Some(job) => self.check_of_job(&kind, &frame, job.get().trim_matches('"')),
            None => Ok(()),
        }
    }

    /// Checks the objects within a frame.
    fn check_within(&self, kind: &str, frame: &Fields<'_>) -> Result<(), String> {
        for (_, field, fields) in WITHIN.iter().filter(|(name, _, _)| *name == kind) {
            let Some(value) = frame.get(field).map(|raw| raw.get()) else { continue };
            let list = serde_json::from_str::<Vec<Fields<'_>>>(value);
            match list.or_else(|_| serde_json::from_str::<Fields<'_>>(value).map(|one| vec![one])) {
                Ok(items) => items.iter().try_for_each(|item| {
                    check_fields(field, item.keys().copied(), fields)?;
                    self.check_extended(field, item, true)
                })?,
                Err(_) => return Err(format!("{kind}.{field} is not an object")),
            }
        }
        Ok(())
    }

    /// Checks a text frame about a job.
    fn check_of_job(&self, kind: &str, frame: &Fields<'_>, job: &str) -> Result<(), String> {
        let mut jobs = self.jobs.borrow_mut();
        let account = job.parse().ok().and_then(|id: JobId| jobs.get_mut(&id));
        let account = Account::accepting(account, job)?;
        if kind == "job_chunk" {
            return self.check_chunk(frame, account);
        }
        account.ended += 1;
        (account.received, account.begun) = (0, false);
        Ok(())
    }

    /// Checks a chunk in a text frame: with binary chunks only the first one is, for its head.
    fn check_chunk(&self, chunk: &Fields<'_>, account: &mut Account) -> Result<(), String> {
        let resumes = self.agreed.get().contains(Extension::Resume);
        let is_first = if resumes { account.received == 0 } else { !account.begun };
        let carries_head = self.agreed.get().contains(Extension::Endpoints) && is_first;
        let offset = chunk.get("offset").and_then(|offset| serde_json::from_str::<u64>(offset.get()).ok());
        if offset != resumes.then_some(account.received) {
            return Err(format!("a chunk at {offset:?} where {} bytes have come", account.received));
        }
        self.check_extended("job_chunk", chunk, carries_head)?;
        if self.agreed.get().contains(Extension::Binary) && !carries_head {
            return Err("a chunk of text, though binary was agreed on".to_owned());
        }
        let data = chunk.get("data").and_then(|data| serde_json::from_str::<String>(data.get()).ok());
        let data = data.and_then(|data| STANDARD.decode(data).ok()).ok_or("job_chunk is not base64")?;
        account.begun = true;
        account.received += data.len() as u64;
        Ok(())
    }

    /// Checks that an object has the fields of the extensions that were agreed on, and no others. `carries`: whether the object has
    /// such fields at all, as the first chunk of a job has and the others have not.
    fn check_extended(&self, name: &str, object: &Fields<'_>, carries: bool) -> Result<(), String> {
        for (extension, _, fields) in EXTENDED.iter().filter(|(_, object, _)| *object == name) {
            let must = carries && self.agreed.get().contains(*extension);
            match fields.iter().find(|field| object.contains_key(**field) != must) {
                Some(field) if must => return Err(format!("{name} lacks {field}, though it was agreed on")),
                Some(field) => return Err(format!("{name} has {field}, which has no place there")),
                None => {}
            }
        }
        Ok(())
    }

    /// Checks one binary frame of the agent.
    pub(super) fn check_binary(&self, frame: &Bytes) -> Result<(), String> {
        if !self.agreed.get().contains(Extension::Binary) {
            return Err("a binary frame, which was not agreed on".to_owned());
        }
        let chunk = BinaryChunk::parse(frame).map_err(|error| error.to_string())?;
        let mut jobs = self.jobs.borrow_mut();
        let account = jobs.iter_mut().find(|(job, _)| job.uuid() == chunk.job).map(|(_, account)| account);
        let account = Account::accepting(account, chunk.job)?;
        if chunk.offset != account.received {
            let (job, offset, received) = (chunk.job, chunk.offset, account.received);
            return Err(format!("a chunk of job {job} at {offset} where {received} bytes have come"));
        }
        if self.agreed.get().contains(Extension::Endpoints) && !account.begun {
            return Err(format!("a binary chunk of job {} before the head of its response", chunk.job));
        }
        account.begun = true;
        account.received += chunk.bytes.len() as u64;
        Ok(())
    }

    /// Checks that a drain may be announced.
    fn check_drain(&self) -> Result<(), String> {
        if !self.agreed.get().contains(Extension::Drain) {
            return Err("a drain, though that was not agreed on".to_owned());
        }
        if self.draining.replace(true) { Err("a second drain".to_owned()) } else { Ok(()) }
    }

    /// Checks the names in an answer to a challenge: some of those that were offered.
    fn check_answer(&self, names: &str) -> Result<(), String> {
        let offered = self.offered.get();
        let names: Vec<String> = serde_json::from_str(names).map_err(|error| format!("extensions: {error}"))?;
        let known = |name: &String| offered.iter().find(|extension| extension.as_str() == name);
        if let Some(other) = names.iter().find(|name| known(name).is_none()) {
            return Err(format!("the extension {other}, which was not offered"));
        }
        if names.is_empty() {
            return Err("an empty list of extensions".to_owned());
        }
        self.agreed.set(names.iter().filter_map(known).collect());
        Ok(())
    }
}

impl Account {
    /// The account of a job, if a frame of it may come now.
    fn accepting(account: Option<&mut Self>, job: impl Display) -> Result<&mut Self, String> {
        let Some(account) = account else {
            return Err(format!("a frame of job {job}, which this connection never sent"));
        };
        if account.silent {
            return Err(format!("a frame of job {job} after its cancel was acted on"));
        }
        if account.ended >= account.sent {
            return Err(format!("a frame of job {job} after its end"));
        }
        Ok(account)
    }
}

fn check_fields<'a>(name: &str, keys: impl Iterator<Item = &'a str> + Clone, fields: &[&str]) -> Result<(), String> {
    let known = |key: &str| fields.iter().any(|field| field.trim_end_matches('?') == key);
    if let Some(key) = keys.clone().find(|key| !known(key)) {
        return Err(format!("{name} has a field {key}, which the base protocol does not have"));
    }
    match fields.iter().find(|field| !field.ends_with('?') && !keys.clone().any(|key| key == **field)) {
        Some(missing) => Err(format!("{name} lacks {missing}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
