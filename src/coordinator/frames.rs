//! Agents' frames, read by someone who does not trust them.
//!
//! First the type alone, passing over the rest without allocating, then the one struct that goes with it. A frame so
//! costs no more memory than it has bytes, whatever it nests. Fields of free text are bounded here, once.

use std::borrow::Cow;

use serde::Deserialize;

use crate::messages::wire::{Capabilities, FromAgent, Heartbeat, JobError};

/// More models than this are no offer.
const MAX_MODELS: usize = 1024;
/// Bytes of a model's id.
const MAX_MODEL_ID: usize = 512;
/// Bytes of a version, a kind of backend, a time.
const MAX_WORD: usize = 64;
/// Characters of an error message that are kept.
const MAX_MESSAGE: usize = 500;

/// Why a text frame can't be read. Never holds any of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Not a JSON object with a `type`.
    #[error("not a JSON object with a type")]
    NoType,
    /// Fields are missing, of another type, or out of bounds.
    #[error("a field is missing, of another type or out of bounds")]
    BadField,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Reads one text frame.
pub(super) fn read(frame: &[u8]) -> Result<FromAgent, FrameError> {
    if frame.trim_ascii_start().first() != Some(&b'{') {
        return Err(FrameError::NoType);
    }
    let Kind { kind } = serde_json::from_slice(frame).map_err(|_| FrameError::NoType)?;
    Ok(match kind.as_ref() {
        "auth_response" => FromAgent::AuthResponse(fields(frame)?),
        "capabilities" => FromAgent::Capabilities(fields(frame).and_then(bounded_offer)?),
        "heartbeat" => FromAgent::Heartbeat(fields(frame).and_then(bounded_figures)?),
        "job_chunk" => FromAgent::JobChunk(fields(frame)?),
        "job_done" => FromAgent::JobDone(fields(frame)?),
        "job_error" => FromAgent::JobError(fields(frame).map(bounded_message)?),
        _ => FromAgent::Unknown,
    })
}

fn fields<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(frame).map_err(|_| FrameError::BadField)
}

fn bounded_offer(offer: Capabilities) -> Result<Capabilities, FrameError> {
    let good = offer.models.len() <= MAX_MODELS
        && offer.metadata.agent_version.len() <= MAX_WORD
        && offer.models.iter().all(|model| {
            (1..=MAX_MODEL_ID).contains(&model.model_id.as_str().len()) && model.backend.len() <= MAX_WORD
        });
    if good { Ok(offer) } else { Err(FrameError::BadField) }
}

fn bounded_figures(figures: Heartbeat) -> Result<Heartbeat, FrameError> {
    let good = figures.last_error_at.as_ref().is_none_or(|at| at.len() <= MAX_WORD);
    if good { Ok(figures) } else { Err(FrameError::BadField) }
}

fn bounded_message(mut error: JobError) -> JobError {
    error.message = error.message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    error
}

/// Text from outside as it may be logged: escaped, and not long.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_WORD).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ids::JobId;
    use crate::messages::wire::ErrorCode;

    #[test]
    fn a_type_that_is_not_known_is_unknown_whatever_it_holds() {
        let nested = format!(r#"{{"x":{}{},"type":"later"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(nested.as_bytes()), Ok(FromAgent::Unknown));
    }

    #[test]
    fn what_is_no_object_with_a_type_is_no_frame() {
        for text in ["", "[]", r#"["job_done"]"#, "{", "{}", r#"{"type":7}"#, "null"] {
            assert_eq!(read(text.as_bytes()), Err(FrameError::NoType), "{text}");
        }
    }

    #[test]
    fn a_chunk_is_read_with_fields_that_are_new() {
        let id = JobId::random();
        let text = format!(r#"{{"offset":5,"type":"job_chunk","job_id":"{id}","data":"aGk="}}"#);
        let Ok(FromAgent::JobChunk(chunk)) = read(text.as_bytes()) else { panic!("no chunk") };
        assert_eq!((chunk.job_id, chunk.data.as_str()), (id, "aGk="));
    }

    #[test]
    fn an_offer_without_bounds_is_refused() {
        let model = r#"{"model_id":"m","input_per_1m":1,"output_per_1m":1,"max_concurrent":1,"backend":"ollama"}"#;
        let offer = |models: &str| {
            format!(
                r#"{{"type":"capabilities","models":[{models}],"metadata":{{"agent_version":"1"}},
                    "limits":{{"max_concurrent_total":1,"max_tokens_per_minute":null}}}}"#
            )
        };
        assert!(matches!(read(offer(model).as_bytes()), Ok(FromAgent::Capabilities(_))));
        let many = vec![model; MAX_MODELS + 1].join(",");
        assert_eq!(read(offer(&many).as_bytes()), Err(FrameError::BadField));
        let long = model.replace("\"m\"", &format!("\"{}\"", "m".repeat(MAX_MODEL_ID + 1)));
        assert_eq!(read(offer(&long).as_bytes()), Err(FrameError::BadField));
    }

    #[test]
    fn an_error_message_is_cut_and_without_control_characters() {
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
