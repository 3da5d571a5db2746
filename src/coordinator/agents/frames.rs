//! Parses the frames of agents, which are not trusted.
//!
//! First the type is read, without allocating for the other fields, then the struct of that type. So a frame costs at most a
//! small multiple of its bytes in memory, whatever it nests. Unbounded texts are cut here, once.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::messages::ids::JobId;
use crate::messages::wire::{
    AuthResponse, Capabilities, FromAgent, Heartbeat, JobError, LONGEST_MODEL_ID, Limits, MOST_MODELS, Metadata,
    ModelOffer,
};

/// The longest version, kind of backend and time, in bytes.
const MAX_WORD: usize = 64;
/// A smaller limit of an agent's messages counts as none, in bytes: hardly any frame would be within it.
const LEAST_MESSAGE: u64 = 1024;
/// Characters of an error message that are kept.
const MAX_MESSAGE: usize = 500;

/// Why a text frame can't be read. Never holds any of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Not a JSON object with a `type`.
    #[error("not a JSON object with a type")]
    NoType,
    /// Fields are missing, of another type, or out of bounds.
    #[error("a field is missing, of another type or out of bounds")]
    BadField,
    /// The same in a frame of this job. The job's response is incomplete without the frame.
    #[error("a field is missing, of another type or out of bounds in a frame of job {0}")]
    BadFieldOfJob(JobId),
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Reads one text frame.
pub(crate) fn read(frame: &[u8]) -> Result<FromAgent, FrameError> {
    if frame.trim_ascii_start().first() != Some(&b'{') {
        return Err(FrameError::NoType);
    }
    let Kind { kind } = serde_json::from_slice(frame).map_err(|_| FrameError::NoType)?;
    Ok(match kind.as_ref() {
        "auth_response" => FromAgent::AuthResponse(fields(frame).map(bounded_version)?),
        "capabilities" => FromAgent::Capabilities(fields::<Offer>(frame).map(Offer::bounded)?),
        "heartbeat" => FromAgent::Heartbeat(fields(frame).and_then(bounded_figures)?),
        "job_chunk" => FromAgent::JobChunk(fields_of_job(frame)?),
        "job_done" => FromAgent::JobDone(fields_of_job(frame)?),
        "job_error" => FromAgent::JobError(fields_of_job(frame).map(bounded_message)?),
        "drain" => FromAgent::Drain(fields(frame)?),
        _ => FromAgent::Unknown,
    })
}

fn fields<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(frame).map_err(|_| FrameError::BadField)
}

fn fields_of_job<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    #[derive(Deserialize)]
    struct Job {
        job_id: JobId,
    }
    fields(frame).map_err(|error| match fields(frame) {
        Ok(Job { job_id }) => FrameError::BadFieldOfJob(job_id),
        Err(_) => error,
    })
}

/// `capabilities`, without the models that can't be read or are out of bounds.
#[derive(Deserialize)]
struct Offer {
    models: Models,
    limits: Limits,
    metadata: Metadata,
}

impl Offer {
    fn bounded(self) -> Capabilities {
        let Self { models: Models(models), mut limits, metadata: Metadata { agent_version } } = self;
        limits.max_message_bytes = limits.max_message_bytes.filter(|bytes| *bytes >= LEAST_MESSAGE);
        Capabilities { models, limits, metadata: Metadata { agent_version: cut(agent_version) } }
    }
}

/// The first models of a list, up to the limit of an offer.
struct Models(Vec<ModelOffer>);

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ModelsVisitor)
    }
}

struct ModelsVisitor;

impl<'de> Visitor<'de> for ModelsVisitor {
    type Value = Models;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of models")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Models, A::Error> {
        let mut models = Vec::new();
        while models.len() < MOST_MODELS {
            let Some(model) = list.next_element::<&RawValue>()? else { return Ok(Models(models)) };
            models.extend(serde_json::from_str(model.get()).ok().filter(is_bounded));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Models(models))
    }
}

fn is_bounded(model: &ModelOffer) -> bool {
    (1..=LONGEST_MODEL_ID).contains(&model.model_id.as_str().len()) && model.backend.len() <= MAX_WORD
}

fn bounded_version(response: AuthResponse) -> AuthResponse {
    AuthResponse { agent_version: cut(response.agent_version), ..response }
}

/// Cuts a text that should be one word.
fn cut(mut word: String) -> String {
    word.truncate(word.floor_char_boundary(MAX_WORD));
    word
}

fn bounded_figures(figures: Heartbeat) -> Result<Heartbeat, FrameError> {
    let good = figures.last_error_at.as_ref().is_none_or(|at| at.len() <= MAX_WORD);
    if good { Ok(figures) } else { Err(FrameError::BadField) }
}

fn bounded_message(mut error: JobError) -> JobError {
    error.message = error.message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::wire::{DrainNotice, ErrorCode};

    #[test]
    fn a_frame_of_an_unknown_type_is_unknown_whatever_it_contains() {
        let nested = format!(r#"{{"x":{}{},"type":"later"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(nested.as_bytes()), Ok(FromAgent::Unknown));
    }

    #[test]
    fn anything_but_an_object_with_a_type_is_an_error() {
        for text in ["", "[]", r#"["job_done"]"#, "{", "{}", r#"{"type":7}"#, "null"] {
            assert_eq!(read(text.as_bytes()), Err(FrameError::NoType), "{text}");
        }
    }

    #[test]
    fn a_chunk_with_unknown_fields_is_read() {
        let id = JobId::random();
        let text = format!(r#"{{"offset":5,"type":"job_chunk","job_id":"{id}","data":"aGk="}}"#);
        let Ok(FromAgent::JobChunk(chunk)) = read(text.as_bytes()) else { panic!("no chunk") };
        assert_eq!((chunk.job_id, chunk.data.as_str()), (id, "aGk="));
    }

    #[test]
    fn a_drain_without_the_number_of_its_jobs_is_not_read() {
        let drain = |field: &str| read(format!(r#"{{"type":"drain"{field}}}"#).as_bytes());
        for (field, in_flight) in [(r#","in_flight":0"#, 0), (r#","in_flight":7,"more":[]"#, 7)] {
            assert_eq!(drain(field), Ok(FromAgent::Drain(DrainNotice { in_flight })));
        }
        for value in ["-1", "1.5", "null", r#""1""#, "[1]", "18446744073709551616"] {
            assert_eq!(drain(&format!(r#","in_flight":{value}"#)), Err(FrameError::BadField), "{value}");
        }
        assert_eq!(drain(""), Err(FrameError::BadField));
    }

    const MODEL: &str = r#"{"model_id":"m","input_per_1m":1,"output_per_1m":1,"max_concurrent":1,"backend":"ollama"}"#;

    fn offer(models: &str, version: &str) -> String {
        format!(
            r#"{{"type":"capabilities","models":[{models}],"metadata":{{"agent_version":"{version}"}},
                "limits":{{"max_concurrent_total":1,"max_tokens_per_minute":null}}}}"#
        )
    }

    fn offered(models: &str) -> Vec<String> {
        let Ok(FromAgent::Capabilities(offer)) = read(offer(models, "1").as_bytes()) else { panic!("no offer") };
        offer.models.iter().map(|model| model.model_id.to_string()).collect()
    }

    #[test]
    fn an_offer_of_too_many_models_is_cut_and_not_dropped() {
        assert_eq!(offered(&vec![MODEL; MOST_MODELS].join(",")).len(), MOST_MODELS);
        assert_eq!(offered(&vec![MODEL; MOST_MODELS + 100].join(",")).len(), MOST_MODELS);
    }

    #[test]
    fn a_model_that_is_unreadable_or_out_of_bounds_is_removed_from_its_offer() {
        let named = |name: &str| MODEL.replace("\"m\"", &format!("\"{name}\""));
        let longest = "m".repeat(LONGEST_MODEL_ID);
        let long_kind = MODEL.replace("ollama", &"o".repeat(MAX_WORD + 1));
        let models =
            [&named("a"), &named(""), &named(&longest), &named(&(longest.clone() + "m")), &long_kind, "7", &named("b")];
        assert_eq!(offered(&models.join(",")), ["a", longest.as_str(), "b"]);
        assert_eq!(read(offer("", "1").replace("[]", "7").as_bytes()), Err(FrameError::BadField));
    }

    #[test]
    fn a_largest_message_that_makes_no_sense_is_no_limit() {
        let largest = |value: &str| {
            let limits = format!(r#""limits":{{"max_message_bytes":{value},"#);
            let offer = offer(MODEL, "1").replace(r#""limits":{"#, &limits);
            let Ok(FromAgent::Capabilities(offer)) = read(offer.as_bytes()) else { panic!("no offer: {value}") };
            assert_eq!(offer.models.len(), 1, "{value}");
            offer.limits.max_message_bytes
        };
        assert_eq!(largest("1024"), Some(1024));
        assert_eq!(largest("18446744073709551615"), Some(u64::MAX));
        for value in ["0", "1", "1023", "-1", "1e9", "65536.5", "18446744073709551616", "null", r#""65536""#, "[9999]"]
        {
            assert_eq!(largest(value), None, "{value}");
        }
    }

    #[test]
    fn a_version_is_cut() {
        let Ok(FromAgent::Capabilities(offer)) = read(offer("", &"é".repeat(500)).as_bytes()) else {
            panic!("no offer")
        };
        assert_eq!(offer.metadata.agent_version, "é".repeat(MAX_WORD / 2));
        let response =
            format!(r#"{{"type":"auth_response","pubkey":"","signature":"","agent_version":"{}"}}"#, "1".repeat(500));
        let Ok(FromAgent::AuthResponse(response)) = read(response.as_bytes()) else { panic!("no response") };
        assert_eq!(response.agent_version, "1".repeat(MAX_WORD));
    }

    #[test]
    fn the_error_of_an_unreadable_frame_of_a_job_names_the_job() {
        let job = JobId::random();
        for fields in [
            r#""type":"job_done""#.to_owned(),
            r#""type":"job_done","tokens":{"input":-1,"output":0,"input_tokens":0,"output_tokens":0},"duration_ms":1"#
                .into(),
            r#""type":"job_error","error_code":"internal","message":7,"tokens_emitted":0"#.into(),
            r#""type":"job_chunk","data":null"#.into(),
            format!(r#""type":"job_error","message":{}{}"#, "[".repeat(2000), "]".repeat(2000)),
        ] {
            let frame = format!(r#"{{{fields},"job_id":"{job}"}}"#);
            assert_eq!(read(frame.as_bytes()), Err(FrameError::BadFieldOfJob(job)), "{frame}");
        }
        for id in ["7", "\"7\"", "null"] {
            let frame = format!(r#"{{"type":"job_done","job_id":{id}}}"#);
            assert_eq!(read(frame.as_bytes()), Err(FrameError::BadField), "{frame}");
        }
    }

    #[test]
    fn a_frame_costs_a_small_multiple_of_its_bytes_whatever_it_contains() {
        let id = JobId::random();
        let mut frames = vec![offer(&vec![MODEL; MOST_MODELS + 1000].join(","), "1")];
        for filler in ["0", "[]", "{}", "\"\"", "\"/v1/messages\"", "[[[[]]]]", MODEL] {
            let list = format!("[{}]", vec![filler; (64 << 10) / (filler.len() + 1)].join(","));
            let model = MODEL.replace('{', &format!(r#"{{"endpoints":{list},"#));
            frames.extend([
                offer(&model, "1"),
                format!(r#"{{"type":"job_chunk","job_id":"{id}","data":"aGk=","status":{list}}}"#),
                format!(r#"{{"type":"job_chunk","job_id":"{id}","data":"aGk=","content_type":{list}}}"#),
                format!(r#"{{"type":"job_chunk","job_id":"{id}","data":"aGk=","content_type":{{"a":{list}}}}}"#),
                format!(
                    r#"{{"type":"auth_response","pubkey":"","signature":"","agent_version":"","extensions":{list}}}"#
                ),
                format!(r#"{{"type":"job_done","job_id":"{id}","tokens":{list}}}"#),
            ]);
        }
        for frame in frames {
            let cost = allocation_counter::measure(|| drop(read(frame.as_bytes())));
            assert!(cost.bytes_max < 2 * frame.len() as u64, "{} for {}: {:.80}", cost.bytes_max, frame.len(), frame);
        }
    }

    #[test]
    fn an_error_message_is_cut_and_stripped_of_control_characters() {
        let text = format!(
            r#"{{"type":"job_error","job_id":"{}","error_code":"new_one","message":"a\n{}","tokens_emitted":0}}"#,
            JobId::random(),
            "b".repeat(1000)
        );
        let Ok(FromAgent::JobError(error)) = read(text.as_bytes()) else { panic!("no error") };
        assert_eq!(error.error_code, ErrorCode::Internal);
        assert_eq!(error.message.len(), MAX_MESSAGE);
        assert!(error.message.starts_with("ab"));
    }
}
