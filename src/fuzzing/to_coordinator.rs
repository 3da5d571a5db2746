//! The frames that an agent sends, as the coordinator reads them: text and binary.

use bytes::Bytes;

use super::input::Input;
use crate::coordinator::agent_frames::{FrameError, read};
use crate::messages::wire::{
    BinaryChunk, FromAgent, Heartbeat, JobChunk, LONGEST_MODEL_ID, MOST_MODELS, ResponseHead,
};

/// The longest version, kind of backend and time, in bytes.
const WORD: usize = 64;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let is_binary = input.byte() % 4 == 3;
    let frame = input.rest();
    if is_binary {
        return reads_binary(frame);
    }
    let read_frame = match read(frame) {
        Ok(frame) => frame,
        Err(FrameError::BadFieldOfJob(job)) => {
            assert!(memchr::memmem::find(frame, b"job_id").is_some() || frame.contains(&b'\\'), "{job}");
            return;
        }
        Err(_) => return,
    };
    is_bounded(&read_frame);
    if read_frame == FromAgent::Unknown {
        return;
    }
    let text = serde_json::to_vec(&read_frame).unwrap();
    match (read_frame, read(&text).unwrap()) {
        (FromAgent::Heartbeat(figures), FromAgent::Heartbeat(again)) => are_same(figures, &again),
        (read_frame, again) => assert_eq!(read_frame, again),
    }
}

/// The least digit of a number may change.
fn are_same(figures: Heartbeat, again: &Heartbeat) {
    let close = |a: f64, b: f64| (a - b).abs() <= a.abs() * 1e-12;
    assert!(close(figures.tokens_per_sec_p50, again.tokens_per_sec_p50));
    assert!(close(figures.error_rate_60s, again.error_rate_60s));
    let (tokens_per_sec_p50, error_rate_60s) = (again.tokens_per_sec_p50, again.error_rate_60s);
    assert_eq!(Heartbeat { tokens_per_sec_p50, error_rate_60s, ..figures }, *again);
}

fn is_bounded(frame: &FromAgent) {
    match frame {
        FromAgent::AuthResponse(response) => assert!(response.agent_version.len() <= WORD),
        FromAgent::Capabilities(offer) => {
            assert!(offer.models.len() <= MOST_MODELS && offer.metadata.agent_version.len() <= WORD);
            for model in &offer.models {
                assert!((1..=LONGEST_MODEL_ID).contains(&model.model_id.as_str().len()) && model.backend.len() <= WORD);
            }
        }
        FromAgent::Heartbeat(figures) => {
            assert!(figures.last_error_at.as_ref().is_none_or(|at| at.len() <= WORD));
        }
        FromAgent::JobError(error) => {
            assert!(error.message.chars().count() <= 500 && !error.message.contains(char::is_control));
        }
        FromAgent::JobChunk(chunk) => has_a_head(chunk),
        FromAgent::JobDone(_) | FromAgent::Drain(_) | FromAgent::Unknown => {}
    }
}

/// What a client is sent as its status and type needs no escapes anywhere.
fn has_a_head(chunk: &JobChunk) {
    if let Some(head) = ResponseHead::of(chunk) {
        assert!((100..600).contains(&head.status()) && head.content_type().len() <= 96);
        assert!(head.content_type().bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\;,<>".contains(&byte)));
    }
}

fn reads_binary(frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    if let Ok(chunk) = BinaryChunk::parse(&frame) {
        assert_eq!([&BinaryChunk::head(chunk.job, chunk.offset), &chunk.bytes[..]].concat(), frame);
    }
}
