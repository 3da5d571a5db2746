//! The agent's side of the handshake, with any frames on any number of connections.

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey};

use super::input::Input;
use crate::coordinator::agent_frames;
use crate::core::session::auth2::{CLIENT_NONCE, is_like_a_statement, statement};
use crate::core::session::handshake::{Credentials, Handshake, HandshakeFailure, Received, Step};
use crate::core::session::nonces::SignedNonces;
use crate::messages::ids::JobId;
use crate::messages::secret::Secret;
use crate::messages::wire::{AuthResponse, Extension, FromAgent, KeptJob, ResumeRequest};

const COORDINATOR: &str = "coordinator.example:443";
const CODE: &str = "canary-code-7f3a";
const CLIENT_NONCE_BYTES: [u8; CLIENT_NONCE] = [9; CLIENT_NONCE];

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let options = input.byte();
    let agent = Agent {
        key: SigningKey::from_bytes(&[7; 32]),
        code: (options & 1 != 0).then(|| Secret::new(CODE)),
        resume: (options & 2 != 0).then(kept_jobs),
        requires_auth2: options & 4 != 0,
        nonces: RefCell::default(),
        signed: RefCell::default(),
    };
    // A line is a frame. An empty one ends the connection.
    let mut state = Connection::default();
    for line in input.rest().split(|byte| *byte == b'\n') {
        if line.is_empty() || state.is_over {
            state = Connection::default();
        }
        agent.receives(line, &mut state);
    }
}

fn kept_jobs() -> ResumeRequest {
    let jobs = vec![KeptJob { job_id: JobId::from(uuid::Uuid::nil()), offset: 7, ended: true }];
    ResumeRequest { session: "s".parse().unwrap(), jobs }
}

struct Agent {
    key: SigningKey,
    code: Option<Secret>,
    resume: Option<ResumeRequest>,
    requires_auth2: bool,
    nonces: RefCell<SignedNonces>,
    /// All that was signed, on all connections.
    signed: RefCell<Vec<Vec<u8>>>,
}

/// What the coordinator has seen of one connection.
#[derive(Default)]
struct Connection {
    state: Handshake,
    response: Option<AuthResponse>,
    is_over: bool,
}

impl Agent {
    fn receives(&self, line: &[u8], connection: &mut Connection) {
        let text = Bytes::copy_from_slice(line);
        let received = match line {
            b"" => return,
            b"binary" => Received::Binary,
            b"ping" => Received::Ping,
            b"pong" => Received::Pong,
            b"close" => Received::Close,
            _ => Received::Text(&text),
        };
        let pubkey = self.key.verifying_key().to_bytes();
        let sign = |message: &[u8]| {
            self.signed.borrow_mut().push(message.to_vec());
            self.key.sign(message).to_bytes()
        };
        let credentials = Credentials {
            pubkey: &pubkey,
            sign: &sign,
            signed: &self.nonces,
            enrollment_code: self.code.as_ref(),
            agent_version: "1.2.3",
            resume: self.resume.as_ref(),
            coordinator: COORDINATOR,
            client_nonce: &CLIENT_NONCE_BYTES,
            requires_auth2: self.requires_auth2,
        };
        let signed_before = self.signed.borrow().len();
        let (state, step) = connection.state.next(received, &credentials);
        connection.state = state;
        let has_signed = self.signed.borrow().len() - signed_before;
        assert_eq!(has_signed, usize::from(matches!(step, Step::Send(_))), "one signature for one response");
        match step {
            Step::Wait => assert!(matches!(received, Received::Ping | Received::Pong)),
            Step::Send(response) => {
                assert!(connection.response.is_none(), "one response for one challenge");
                self.is_sound(&response, line);
                connection.response = Some(response);
            }
            Step::Accepted { agreed, session, .. } => {
                let response = connection.response.as_ref().expect("a response comes first");
                assert_eq!(agreed, response.extensions);
                assert_eq!(session.is_some(), agreed.contains(Extension::Resume));
                let resumed = session.and_then(|session| session.resumed);
                assert!(resumed.is_none() || response.resume.is_some(), "nothing goes on that was not asked for");
                connection.is_over = true;
            }
            Step::Failed(failure) => {
                if let HandshakeFailure::Rejected { reason } = &failure {
                    assert!(!reason.is_empty() && reason.chars().count() <= 256);
                    assert!(self.code.is_none() || !reason.contains(CODE));
                }
                connection.is_over = true;
            }
        }
    }

    /// What is signed is new, and can't be of use elsewhere. The coordinator reads the response as it was made.
    fn is_sound(&self, response: &AuthResponse, line: &[u8]) {
        let signed = self.signed.borrow();
        let (last, earlier) = signed.split_last().unwrap();
        assert!(!earlier.contains(last), "nothing is signed twice");
        let has_auth2 = response.extensions.contains(Extension::Auth2);
        assert!(has_auth2 || !self.requires_auth2);
        assert_eq!(is_like_a_statement(last), has_auth2);
        if has_auth2 {
            let nonce = &last[last.len() - CLIENT_NONCE - 4..].len();
            assert!(last.starts_with(&statement(COORDINATOR, b"", &[0; CLIENT_NONCE])[..16 + 4 + COORDINATOR.len()]));
            assert!(*nonce == CLIENT_NONCE + 4 && response.client_nonce.is_some());
        } else {
            assert!((16..=256).contains(&last.len()) && response.client_nonce.is_none());
            assert!(line.len() > last.len());
        }
        let signature: [u8; 64] = STANDARD.decode(&response.signature).unwrap().try_into().unwrap();
        self.key.verifying_key().verify_strict(last, &Signature::from_bytes(&signature)).unwrap();
        assert!(response.resume.is_none() || response.extensions.contains(Extension::Resume));
        let frame = FromAgent::AuthResponse(response.clone());
        assert_eq!(agent_frames::read(&serde_json::to_vec(&frame).unwrap()), Ok(frame));
    }
}
