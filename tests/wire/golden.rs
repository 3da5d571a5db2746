//! The golden files of the wire protocol in `tests/golden/wire`, one a frame: each is read into the type of the frame, and
//! the type is written as exactly these bytes. A `.json` file holds the text of a frame and a final line break, a `.hex`
//! file bytes in hexadecimal digits: a binary frame, and what the signature of a frame covers. They are the examples of the
//! protocol's documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use outpost::messages::endpoint::{AnswerForm, Endpoint, Endpoints};
use outpost::messages::ids::JobId;
use outpost::messages::members::Members;
use outpost::messages::wire::{
    AuthOk, AuthResponse, BinaryChunk, Capabilities, DrainNotice, ErrorCode, Extension, Extensions, FromAgent,
    FromCoordinator, Heartbeat, JobChunk, JobDone, JobError, JobFrame, JobTarget, KeptJob, Limits, Metadata,
    ModelOffer, ResumeRequest, Taken, Tokens, WantedJob,
};

const JOB: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";
const NONCE: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const CLIENT_NONCE: &[u8; 32] = &[9; 32];
const DATA: &[u8] = b"data: {\"choices\":[]}\n\n";

fn job_id() -> JobId {
    JOB.parse().unwrap()
}

/// What `auth2` signs: the parts, each after its length.
fn statement() -> Vec<u8> {
    let host = b"coordinator.example:443";
    let length = |part: &[u8]| (part.len() as u32).to_be_bytes();
    let mut bytes = b"outpost/auth/v2\0".to_vec();
    for part in [&host[..], NONCE, CLIENT_NONCE] {
        bytes.extend(length(part));
        bytes.extend(part);
    }
    bytes
}

fn from_coordinator() -> Vec<(&'static str, FromCoordinator)> {
    let challenge = |extensions| FromCoordinator::AuthChallenge { nonce: STANDARD.encode(NONCE), extensions };
    let job = |endpoint, deadline, target, request: &'static [u8]| {
        FromCoordinator::Job(JobFrame {
            job_id: job_id(),
            model_id: "llama3.2:3b".into(),
            request: Bytes::from_static(request),
            members: Members::default(),
            endpoint,
            deadline: Duration::from_millis(deadline),
            target,
        })
    };
    let session = |jobs: Option<Vec<WantedJob>>| {
        FromCoordinator::AuthOk(AuthOk {
            provider_id: Some("provider-7".into()),
            session: Some("session-3".parse().unwrap()),
            resume_window: Some(Duration::from_mins(1)),
            resumed: jobs.is_some(),
            jobs,
        })
    };
    let chat = br#"{"messages":[{"role":"user","content":"2+2?"}]}"#;
    let messages = br#"{"max_tokens":16,"messages":[{"role":"user","content":"2+2?"}]}"#;
    vec![
        ("auth_challenge", challenge(Extensions::NONE)),
        ("auth_challenge_extensions", challenge(Extensions::all())),
        ("auth_ok", FromCoordinator::AuthOk(AuthOk { provider_id: Some("provider-7".into()), ..AuthOk::default() })),
        ("auth_ok_without_id", FromCoordinator::AuthOk(AuthOk::default())),
        ("auth_failed", FromCoordinator::AuthFailed { reason: Some("unknown public key".into()) }),
        ("auth_failed_without_reason", FromCoordinator::AuthFailed { reason: None }),
        ("job", job(Endpoint::ChatCompletions, 60_000, JobTarget::BASE, chat)),
        ("job_anthropic", job(Endpoint::Messages, 30_000, JobTarget::BASE, messages)),
        (
            "job_endpoints",
            job(
                Endpoint::ChatCompletions,
                60_000,
                JobTarget::new(Endpoint::Embeddings, AnswerForm::Whole),
                br#"{"input":["a","b"]}"#,
            ),
        ),
        ("job_cancel", FromCoordinator::JobCancel { job_id: job_id() }),
        ("auth_ok_session", session(None)),
        ("auth_ok_resumed", session(Some(vec![WantedJob { job_id: job_id(), offset: 65_536 }]))),
        ("ack", FromCoordinator::Ack { job_id: job_id(), taken: Taken::Bytes(65_536) }),
        ("ack_final", FromCoordinator::Ack { job_id: job_id(), taken: Taken::Terminal }),
        ("handover", FromCoordinator::Handover { deadline: Some(Duration::from_secs(30)) }),
    ]
}

fn from_agent() -> Vec<(&'static str, FromAgent)> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let response = AuthResponse {
        pubkey: STANDARD.encode(key.verifying_key().as_bytes()),
        signature: STANDARD.encode(key.sign(NONCE).to_bytes()),
        agent_version: "0.1.0".into(),
        enrollment_code: None,
        extensions: Extensions::NONE,
        resume: None,
        client_nonce: None,
    };
    let enrolling = AuthResponse { enrollment_code: Some("welcome-2026".into()), ..response.clone() };
    let extended = AuthResponse { extensions: Extensions::all().without(Extension::Auth2), ..response.clone() };
    let with_statement = AuthResponse {
        signature: STANDARD.encode(key.sign(&statement()).to_bytes()),
        extensions: [Extension::Auth2].into_iter().collect(),
        client_nonce: Some(STANDARD.encode(CLIENT_NONCE)),
        ..response.clone()
    };
    let kept = KeptJob { job_id: job_id(), offset: 98_304, ended: false };
    let resume = Some(ResumeRequest { session: "session-3".parse().unwrap(), jobs: vec![kept] });
    let resuming = AuthResponse { resume, ..extended.clone() };
    let limits = Limits { max_concurrent_total: 8, max_tokens_per_minute: None, max_message_bytes: None };
    let capabilities = |models, limits| {
        FromAgent::Capabilities(Capabilities { models, limits, metadata: Metadata { agent_version: "0.1.0".into() } })
    };
    let model = ModelOffer {
        model_id: "llama3.2:3b".into(),
        input_per_1m: 500_000,
        output_per_1m: 750_000,
        max_concurrent: 8,
        backend: "ollama".into(),
        context_window: Some(131_072),
        endpoints: None,
    };
    let unknown_context = ModelOffer {
        model_id: "qwen2.5-0.5b".into(),
        backend: "llamacpp".into(),
        max_concurrent: 4,
        context_window: None,
        ..model.clone()
    };
    let endpoints = Endpoints::CHAT.with(Endpoint::Completions).with(Endpoint::Messages);
    let with_endpoints = ModelOffer { endpoints: Some(endpoints), ..model.clone() };
    let heartbeat = Heartbeat {
        queue_depth: 3,
        tokens_per_sec_p50: 41.7,
        p50_latency_ms: 812,
        p95_latency_ms: 2040,
        error_rate_60s: 0.02,
        last_error_at: Some("2026-11-23T14:00:00Z".into()),
        last_error_code: Some(ErrorCode::BackendTimeout),
    };
    let chunk = JobChunk::new(job_id(), STANDARD.encode(DATA));
    let head = JobChunk { status: Some(200), content_type: Some("text/event-stream".into()), ..chunk.clone() };
    let offset = JobChunk { offset: Some(65_536), ..chunk.clone() };
    vec![
        ("auth_response", FromAgent::AuthResponse(response)),
        ("auth_response_enrollment", FromAgent::AuthResponse(enrolling)),
        ("auth_response_extensions", FromAgent::AuthResponse(extended)),
        ("auth_response_resume", FromAgent::AuthResponse(resuming)),
        ("auth_response_auth2", FromAgent::AuthResponse(with_statement)),
        ("capabilities", capabilities(vec![model.clone(), unknown_context], limits)),
        ("capabilities_empty", capabilities(Vec::new(), Limits { max_tokens_per_minute: Some(100_000), ..limits })),
        ("capabilities_endpoints", capabilities(vec![with_endpoints], limits)),
        ("capabilities_sizes", capabilities(vec![model], Limits { max_message_bytes: Some(64 << 20), ..limits })),
        ("heartbeat", FromAgent::Heartbeat(heartbeat)),
        ("heartbeat_without_errors", FromAgent::Heartbeat(Heartbeat::default())),
        ("job_chunk", FromAgent::JobChunk(chunk)),
        ("job_chunk_head", FromAgent::JobChunk(head)),
        ("job_chunk_offset", FromAgent::JobChunk(offset)),
        ("job_done", FromAgent::JobDone(JobDone { job_id: job_id(), tokens: Tokens::new(12, 34), duration_ms: 1780 })),
        (
            "job_error",
            FromAgent::JobError(JobError {
                job_id: job_id(),
                error_code: ErrorCode::BackendUnreachable,
                message: "the backend dropped the connection".into(),
                tokens_emitted: 0,
            }),
        ),
        ("drain", FromAgent::Drain(DrainNotice { in_flight: 3 })),
    ]
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire").join(file)
}

fn golden(name: &str) -> String {
    let file = format!("{name}.json");
    let text = fs::read_to_string(path(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn frames_of_the_coordinator_are_read_and_written_as_in_their_files() {
    for (name, frame) in from_coordinator() {
        let text = golden(name);
        assert_eq!(serde_json::to_string(&frame).unwrap(), text, "{name}");
        assert_eq!(FromCoordinator::parse(&Bytes::from(text)), Ok(frame), "{name}");
    }
}

#[test]
fn frames_of_the_agent_are_read_and_written_as_in_their_files() {
    for (name, frame) in from_agent() {
        let text = golden(name);
        assert_eq!(serde_json::to_string(&frame).unwrap(), text, "{name}");
        assert_eq!(serde_json::from_str::<FromAgent>(&text).unwrap(), frame, "{name}");
    }
}

/// The bytes of a file in hexadecimal digits.
fn golden_bytes(file: &str) -> Bytes {
    let text = fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_signature_of_auth2_covers_the_bytes_in_its_file() {
    let signed = golden_bytes("auth_response_auth2.hex");
    assert_eq!(statement(), signed);
    let response: serde_json::Value = serde_json::from_str(&golden("auth_response_auth2")).unwrap();
    let field = |name: &str| STANDARD.decode(response[name].as_str().unwrap()).unwrap();
    let key = VerifyingKey::from_bytes(&field("pubkey").try_into().unwrap()).unwrap();
    let signature = Signature::from_slice(&field("signature")).unwrap();
    assert!(key.verify_strict(&signed, &signature).is_ok());
    assert_eq!(field("client_nonce"), CLIENT_NONCE);
}

#[test]
fn a_binary_chunk_is_read_and_written_as_in_its_file() {
    let frame = golden_bytes("job_chunk_binary.hex");
    let (job, offset) = (job_id().uuid(), 1024);
    assert_eq!([&BinaryChunk::head(job, offset)[..], DATA].concat(), frame);
    let Ok(chunk) = BinaryChunk::parse(&frame) else { panic!("not a chunk") };
    assert_eq!((chunk.job, chunk.offset, &chunk.bytes[..]), (job, offset, DATA));
}

#[test]
fn every_file_belongs_to_a_frame_and_is_named_after_its_type() {
    let coordinator = from_coordinator().into_iter().map(|(name, _)| name);
    let names: BTreeSet<_> = coordinator.chain(from_agent().into_iter().map(|(name, _)| name)).collect();
    for name in &names {
        let frame: serde_json::Value = serde_json::from_str(&golden(name)).unwrap();
        let kind = frame["type"].as_str().unwrap();
        assert!(name.starts_with(kind), "{name} holds a frame of type {kind}");
    }
    let files = fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.collect();
    let known = names
        .iter()
        .map(|name| format!("{name}.json"))
        .chain(["auth_response_auth2.hex", "job_chunk_binary.hex"].map(str::to_owned));
    assert_eq!(files, known.collect());
}
