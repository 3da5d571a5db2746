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
const TYPES: [(&str, &[&str]); 6] = [
    ("auth_response", &["pubkey", "signature", "agent_version", "enrollment_code?"]),
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
];
/// The objects within them.
const WITHIN: [(&str, &str, &[&str]); 4] = [
    (
        "capabilities",
        "models",
        &["model_id", "input_per_1m", "output_per_1m", "max_concurrent", "backend", "context_window?", "endpoints?"],
    ),
    ("capabilities", "limits", &["max_concurrent_total", "max_tokens_per_minute"]),
    ("capabilities", "metadata", &["agent_version"]),
    ("job_done", "tokens", &["input", "output", "input_tokens", "output_tokens"]),
];

/// Those of the fields above that the extension `endpoints` adds. Where it was agreed on they must be there.
const OF_ENDPOINTS: [(&str, &[&str]); 2] = [("models", &["endpoints"]), ("job_chunk", &["status", "content_type"])];

/// The fields of an object, unparsed.
type Fields<'a> = HashMap<&'a str, &'a RawValue>;

/// The jobs that were sent to an agent on one connection, and its frames about them.
#[derive(Default)]
pub(super) struct Grammar {
    jobs: RefCell<HashMap<JobId, Account>>,
    offered: Cell<Extensions>,
    agreed: Cell<Extensions>,
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
            return Err(format!("a frame of type {kind}, which the base protocol does not have"));
        };
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
        for (_, field, fields) in WITHIN.iter().filter(|(name, _, _)| *name == kind) {
            let Some(value) = frame.get(field).map(|raw| raw.get()) else { continue };
            let list = serde_json::from_str::<Vec<Fields<'_>>>(value);
            match list.or_else(|_| serde_json::from_str::<Fields<'_>>(value).map(|one| vec![one])) {
                Ok(items) => items.iter().try_for_each(|item| {
                    check_fields(field, item.keys().copied(), fields)?;
                    self.check_extended(field, item, *field == "models")
                })?,
                Err(_) => return Err(format!("{kind}.{field} is not an object")),
            }
        }
        match frame.get("job_id") {
            Some(job) => {
                let job = job.get().trim_matches('"');
                let mut jobs = self.jobs.borrow_mut();
                let account = job.parse().ok().and_then(|id: JobId| jobs.get_mut(&id));
                let account = Account::accepting(account, job)?;
                if kind == "job_chunk" {
                    return self.check_chunk(&frame, account);
                }
                account.ended += 1;
                (account.received, account.begun) = (0, false);
                Ok(())
            }
            None => Ok(()),
        }
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

    /// Checks that an object has the fields of the extension `endpoints` if it must have them, and none otherwise.
    fn check_extended(&self, name: &str, object: &Fields<'_>, may: bool) -> Result<(), String> {
        let must = may && self.agreed.get().contains(Extension::Endpoints);
        let fields = OF_ENDPOINTS.iter().filter(|(object, _)| *object == name).flat_map(|(_, fields)| *fields);
        match fields.copied().find(|field| object.contains_key(*field) != must) {
            Some(field) if must => Err(format!("{name} lacks {field}, though endpoints was agreed on")),
            Some(field) => Err(format!("{name} has {field}, which has no place there")),
            None => Ok(()),
        }
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
mod tests {
    use super::*;

    const ID: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";

    #[test]
    fn a_field_or_a_type_outside_the_base_protocol_is_a_fault() {
        let grammar = Grammar::default();
        grammar.sent(ID.parse().unwrap());
        let chunk = |more: &str| format!(r#"{{"type":"job_chunk","job_id":"{ID}","data":""{more}}}"#);
        assert_eq!(grammar.check(chunk("").as_bytes()), Ok(()));
        assert!(grammar.check(chunk(r#","offset":0"#).as_bytes()).is_err());
        assert!(grammar.check(br#"{"type":"drain","in_flight":0}"#).is_err());
        assert!(grammar.check(br#"{"type":"job_chunk","data":""}"#).is_err());
        let done = r#"{"type":"job_done","tokens":{"input":0,"output":0},"duration_ms":1,"job_id":""#;
        assert!(grammar.check(format!("{done}{ID}\"}}").as_bytes()).is_err(), "two of the tokens' fields are missing");
    }

    #[test]
    fn an_extension_that_was_not_offered_is_a_fault() {
        let response = |more: &str| {
            format!(r#"{{"type":"auth_response","pubkey":"","signature":"","agent_version":""{more}}}"#).into_bytes()
        };
        let taken = response(r#","extensions":["binary"]"#);
        let grammar = Grammar::default();
        assert_eq!(grammar.check(&response("")), Ok(()));
        assert!(grammar.check(&taken).is_err(), "there was no offer");
        grammar.offered(Extensions::all());
        assert_eq!(grammar.check(&response("")), Ok(()), "an offer may be left");
        assert!(grammar.check(&response(r#","extensions":["weather"]"#)).is_err());
        assert!(grammar.check(&response(r#","extensions":[]"#)).is_err());
        assert_eq!(grammar.check(&taken), Ok(()));
    }

    #[test]
    fn binary_chunks_are_agreed_on_and_without_a_gap() {
        let grammar = Grammar::default();
        let job: JobId = ID.parse().unwrap();
        let chunk = |offset| Bytes::from([&BinaryChunk::head(job.uuid(), offset)[..], b"abc"].concat());
        grammar.sent(job);
        assert!(grammar.check_binary(&chunk(0)).is_err(), "not agreed on");
        let binary: Extensions = [Extension::Binary].into_iter().collect();
        grammar.offered(binary);
        grammar.agreed.set(binary);
        assert_eq!(grammar.check_binary(&chunk(0)), Ok(()));
        assert!(grammar.check_binary(&chunk(0)).is_err(), "again");
        assert!(grammar.check_binary(&chunk(4)).is_err(), "a gap");
        assert_eq!(grammar.check_binary(&chunk(3)), Ok(()));
        assert!(grammar.check_binary(&Bytes::from_static(b"\x01")).is_err());
        let text = format!(r#"{{"type":"job_chunk","job_id":"{ID}","data":""}}"#);
        assert!(grammar.check(text.as_bytes()).is_err(), "text, though binary was agreed on");
        grammar.silence(job);
        assert!(grammar.check_binary(&chunk(6)).is_err());
    }

    #[test]
    fn the_first_chunk_has_a_head_only_if_endpoints_was_agreed_on() {
        let chunk = |head: &str| format!(r#"{{"type":"job_chunk","job_id":"{ID}","data":"aGk="{head}}}"#).into_bytes();
        let (bare, headed) = (chunk(""), chunk(r#","status":200,"content_type":"""#));
        let half = chunk(r#","status":200"#);
        let job: JobId = ID.parse().unwrap();
        let binary = |offset| Bytes::from([&BinaryChunk::head(job.uuid(), offset)[..], b"abc"].concat());
        for with_binary in [false, true] {
            let grammar = Grammar::default();
            grammar.sent(job);
            assert!(grammar.check(&headed).is_err(), "not agreed on");
            let agreed = [Extension::Endpoints].into_iter().chain(with_binary.then_some(Extension::Binary));
            grammar.agreed.set(agreed.collect());
            assert!(grammar.check(&bare).is_err() && grammar.check(&half).is_err(), "no head");
            assert!(grammar.check_binary(&binary(0)).is_err(), "no head");
            assert_eq!(grammar.check(&headed), Ok(()));
            assert!(grammar.check(&headed).is_err(), "a second head");
            assert_eq!(grammar.check(&bare).is_err(), with_binary);
            assert_eq!(grammar.check_binary(&binary(2)).is_ok(), with_binary);
        }
    }

    #[test]
    fn offers_list_paths_only_if_endpoints_was_agreed_on() {
        let offer = |more: &str| {
            let model = r#""model_id":"m","input_per_1m":1,"output_per_1m":1,"max_concurrent":1,"backend":"b""#;
            let limits = r#"{"max_concurrent_total":1,"max_tokens_per_minute":null}"#;
            let rest = format!(r#""limits":{limits},"metadata":{{"agent_version":"1"}}"#);
            format!(r#"{{"type":"capabilities","models":[{{{model}{more}}}],{rest}}}"#).into_bytes()
        };
        let (base, extended) = (offer(""), offer(r#","endpoints":[]"#));
        let grammar = Grammar::default();
        assert_eq!((grammar.check(&base).is_ok(), grammar.check(&extended).is_ok()), (true, false));
        grammar.agreed.set([Extension::Endpoints].into_iter().collect());
        assert_eq!((grammar.check(&base).is_ok(), grammar.check(&extended).is_ok()), (false, true));
    }

    #[test]
    fn a_frame_of_a_job_that_was_not_sent_or_has_ended_is_a_fault() {
        let grammar = Grammar::default();
        let error = format!(
            r#"{{"type":"job_error","job_id":"{ID}","error_code":"internal","message":"","tokens_emitted":0}}"#
        );
        assert!(grammar.check(error.as_bytes()).is_err());
        grammar.sent(ID.parse().unwrap());
        assert_eq!(grammar.check(error.as_bytes()), Ok(()));
        assert!(grammar.check(error.as_bytes()).is_err());
    }
}
