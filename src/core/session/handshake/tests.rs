//! The handshake, step by step and failure by failure.

use std::cell::{Cell, RefCell};

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier};
use proptest::prelude::*;

use super::*;
use crate::core::session::auth2::{is_like_a_statement, statement};
use crate::messages::wire::{Extension, FromAgent};

mod auth2;
mod session;

const ID: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";
const CODE: &str = "canary-code-7f3a";
const COORDINATOR: &str = "coordinator.example:443";
const VERDICT: Handshake = Handshake::AwaitingVerdict { agreed: Extensions::NONE, resumes: false };

/// An agent with a real key, and the nonces that it signed.
struct Agent {
    key: SigningKey,
    code: Option<Secret>,
    resume: Option<ResumeRequest>,
    signed: RefCell<Vec<Vec<u8>>>,
    nonces: RefCell<SignedNonces>,
    state: Cell<Handshake>,
    client_nonce: [u8; CLIENT_NONCE],
    requires_auth2: bool,
}

impl Agent {
    fn in_state(state: Handshake) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        Self {
            key,
            code: None,
            resume: None,
            signed: RefCell::default(),
            nonces: RefCell::default(),
            state: Cell::new(state),
            client_nonce: [9; CLIENT_NONCE],
            requires_auth2: false,
        }
    }

    fn receives(&self, received: Received<'_>) -> Step {
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
            client_nonce: &self.client_nonce,
            requires_auth2: self.requires_auth2,
        };
        let (state, step) = self.state.get().next(received, &credentials);
        self.state.set(state);
        step
    }

    fn reads(&self, text: &str) -> Step {
        self.receives(Received::Text(&Bytes::copy_from_slice(text.as_bytes())))
    }
}

fn challenge(nonce: &str) -> String {
    format!(r#"{{"type":"auth_challenge","nonce":"{nonce}"}}"#)
}

/// A challenge with these names on offer.
fn challenge_offering(nonce: &str, extensions: &str) -> String {
    format!(r#"{{"type":"auth_challenge","nonce":"{nonce}","extensions":{extensions}}}"#)
}

fn failed(step: Step) -> HandshakeFailure {
    match step {
        Step::Failed(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

#[test]
fn a_challenge_is_answered_with_a_signature_over_the_raw_nonce() {
    for size in [16, 17, 18, 32, 255, 256] {
        let agent = Agent::in_state(Handshake::default());
        let nonce: Vec<u8> = (0..size).map(|i| i as u8).collect();
        let Step::Send(response) = agent.reads(&challenge(&STANDARD.encode(&nonce))) else { panic!("no answer") };
        assert_eq!(agent.state.get(), VERDICT);
        assert_eq!(STANDARD.decode(&response.pubkey).unwrap(), agent.key.verifying_key().to_bytes());
        let signature = Signature::from_slice(&STANDARD.decode(&response.signature).unwrap()).unwrap();
        assert!(agent.key.verifying_key().verify(&nonce, &signature).is_ok());
        assert_eq!((response.agent_version.as_str(), response.enrollment_code), ("1.2.3", None));
        assert_eq!(*agent.signed.borrow(), [nonce]);
    }
}

#[test]
fn the_response_names_the_known_extensions_of_the_offer_and_without_an_offer_none() {
    let two: Extensions = [Extension::Binary, Extension::Endpoints].into_iter().collect();
    for (offer, agreed) in [
        ("", Extensions::NONE),
        (r#","extensions":[]"#, Extensions::NONE),
        (r#","extensions":["weather","drain2"]"#, Extensions::NONE),
        (r#","extensions":"binary""#, Extensions::NONE),
        (r#","extensions":{"binary":1}"#, Extensions::NONE),
        (r#","extensions":["binary",7]"#, Extensions::NONE),
        (r#","extensions":null"#, Extensions::NONE),
        (r#","extensions":["endpoints","binary"]"#, two),
        (r#","extensions":["weather","binary","endpoints"]"#, two),
    ] {
        let agent = Agent::in_state(Handshake::default());
        let nonce = STANDARD.encode([1; 32]);
        let step = agent.reads(&format!(r#"{{"type":"auth_challenge","nonce":"{nonce}"{offer}}}"#));
        let Step::Send(response) = step else { panic!("no answer") };
        let sent = serde_json::to_value(FromAgent::AuthResponse(response)).unwrap();
        let names = (!agreed.is_empty()).then(|| serde_json::json!(["binary", "endpoints"]));
        assert_eq!(sent.get("extensions"), names.as_ref(), "{offer}");
        assert_eq!(agent.state.get(), Handshake::AwaitingVerdict { agreed, resumes: false }, "{offer}");
        let accepted = agent.reads(r#"{"type":"auth_ok","extensions":["binary"]}"#);
        assert_eq!(accepted, Step::Accepted { provider_id: None, agreed, session: None }, "{offer}");
    }
}

#[test]
fn the_enrollment_code_is_sent_if_there_is_one() {
    let mut agent = Agent::in_state(Handshake::default());
    agent.code = Some(Secret::new(CODE));
    let step = agent.reads(&challenge(&STANDARD.encode([1; 32])));
    assert!(!format!("{step:?}").contains(CODE));
    let Step::Send(response) = step else { panic!("no answer") };
    assert_eq!(response.enrollment_code.as_deref(), Some(CODE));
}

#[test]
fn nothing_is_signed_for_a_bad_nonce() {
    let good = STANDARD.encode([0xff; 32]);
    let url_safe = good.replace('/', "_");
    let cases = [
        r#"{"type":"auth_challenge"}"#.to_owned(),
        r#"{"type":"auth_challenge","nonce":null}"#.to_owned(),
        r#"{"type":"auth_challenge","nonce":[1,2]}"#.to_owned(),
        challenge(""),
        challenge("!!!!"),
        challenge(good.trim_end_matches('=')),
        challenge(&format!("{good} ")),
        challenge(&url_safe),
        challenge(&STANDARD.encode([0; 15])),
        challenge(&STANDARD.encode([0; 257])),
        challenge(&STANDARD.encode([0; 258])),
        challenge(&STANDARD.encode([0; 259])),
        challenge(&STANDARD.encode(vec![0; 1 << 20])),
    ];
    for text in cases {
        let agent = Agent::in_state(Handshake::AwaitingChallenge);
        let shown = &text[..text.len().min(80)];
        assert_eq!(failed(agent.reads(&text)), HandshakeFailure::BadNonce, "{shown}");
        assert_eq!(agent.state.get(), Handshake::Over, "{shown}");
        assert!(agent.signed.borrow().is_empty(), "{shown}");
    }
}

#[test]
fn auth_ok_admits_the_agent_with_or_without_a_provider_id() {
    let longest = "a".repeat(128);
    for (field, id) in [
        ("", None),
        (r#","provider_id":null"#, None),
        (r#","provider_id":"p.r_o:v-1","more":[]"#, Some("p.r_o:v-1")),
        (&format!(r#","provider_id":"{longest}""#), Some(longest.as_str())),
    ] {
        let agent = Agent::in_state(VERDICT);
        let step = agent.reads(&format!(r#"{{"type":"auth_ok"{field}}}"#));
        let provider_id = id.map(|id| id.parse().unwrap());
        assert_eq!(step, Step::Accepted { provider_id, agreed: Extensions::NONE, session: None });
        assert_eq!(agent.state.get(), Handshake::Over);
    }
}

#[test]
fn an_invalid_provider_id_fails_the_handshake() {
    let long = format!("\"{}\"", "a".repeat(129));
    for id in ["\"\"", "\"a b\"", "\"a\\n\"", "\"a\\u0000\"", "\"../x\"", "\"ü\"", "7", "{}", "[\"a\"]", &long] {
        let agent = Agent::in_state(VERDICT);
        let step = agent.reads(&format!(r#"{{"type":"auth_ok","provider_id":{id}}}"#));
        assert_eq!(failed(step), HandshakeFailure::BadProviderId, "{id}");
        assert_eq!(agent.state.get(), Handshake::Over);
    }
}

#[test]
fn a_refusal_has_its_reason_at_either_step() {
    let long = "ü".repeat(300);
    for (field, reason) in [
        ("", "unknown"),
        (r#","reason":null"#, "unknown"),
        (r#","reason":"""#, "unknown"),
        (r#","reason":7"#, "unknown"),
        (r#","reason":"no such key""#, "no such key"),
        (&format!(r#","reason":"{long}""#), &"ü".repeat(256)),
    ] {
        for state in [Handshake::AwaitingChallenge, VERDICT] {
            let agent = Agent::in_state(state);
            let step = agent.reads(&format!(r#"{{"type":"auth_failed"{field}}}"#));
            assert_eq!(failed(step), HandshakeFailure::Rejected { reason: reason.to_owned() });
            assert_eq!(agent.state.get(), Handshake::Over);
        }
    }
}

#[test]
fn the_reason_of_a_refusal_never_contains_the_code() {
    let mut agent = Agent::in_state(VERDICT);
    agent.code = Some(Secret::new(CODE));
    let pad = "x".repeat(250);
    let step =
        agent.reads(&format!(r#"{{"type":"auth_failed","reason":"{CODE} is\nbad\u001b[2J\u202e {pad}{CODE}{CODE}"}}"#));
    let failure = failed(step);
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn an_unexpected_frame_fails_the_handshake_at_every_step() {
    let job = format!(r#"{{"type":"job","job_id":"{ID}","model_id":"m","request":{{}}}}"#);
    let malformed = format!(r#"{{"type":"job","job_id":"{ID}"}}"#);
    let cancel = format!(r#"{{"type":"job_cancel","job_id":"{ID}"}}"#);
    let ack_without_offset = format!(r#"{{"type":"ack","job_id":"{ID}"}}"#);
    let again = challenge(&STANDARD.encode([1; 32]));
    let both = [Handshake::AwaitingChallenge, VERDICT].as_slice();
    let early = [Handshake::AwaitingChallenge].as_slice();
    let late = [VERDICT].as_slice();
    let table = [
        (job.as_str(), both, HandshakeFailure::UnexpectedType),
        (&malformed, both, HandshakeFailure::UnexpectedType),
        (&cancel, both, HandshakeFailure::UnexpectedType),
        (r#"{"type":"job_cancel"}"#, both, HandshakeFailure::UnexpectedType),
        (&ack_without_offset, both, HandshakeFailure::UnexpectedType),
        (r#"{"type":"news"}"#, both, HandshakeFailure::UnexpectedType),
        (r#"{"type":7}"#, both, HandshakeFailure::UnexpectedType),
        ("{}", both, HandshakeFailure::UnexpectedType),
        ("", both, HandshakeFailure::NotJson),
        ("<html>", both, HandshakeFailure::NotJson),
        (r#"{"type":"auth_ok""#, both, HandshakeFailure::NotJson),
        (r#"{"type":"auth_ok"}"#, early, HandshakeFailure::UnexpectedType),
        (r#"{"type":"auth_ok","provider_id":7}"#, early, HandshakeFailure::UnexpectedType),
        (&again, late, HandshakeFailure::UnexpectedType),
    ];
    for (text, states, failure) in table {
        for state in states {
            let agent = Agent::in_state(*state);
            assert_eq!(failed(agent.reads(text)), failure, "{state:?} {text}");
            assert_eq!(agent.state.get(), Handshake::Over);
            assert!(agent.signed.borrow().is_empty());
        }
    }
    for state in both {
        for (received, failure) in
            [(Received::Binary, HandshakeFailure::BinaryFrame), (Received::Close, HandshakeFailure::Closed)]
        {
            let agent = Agent::in_state(*state);
            assert_eq!(failed(agent.receives(received)), failure);
            assert_eq!(agent.state.get(), Handshake::Over);
        }
    }
}

#[test]
fn pings_and_pongs_change_nothing() {
    for state in [Handshake::AwaitingChallenge, VERDICT, Handshake::Over] {
        for received in [Received::Ping, Received::Pong] {
            let agent = Agent::in_state(state);
            assert_eq!((agent.receives(received), agent.state.get()), (Step::Wait, state));
        }
    }
}

#[test]
fn after_its_end_a_handshake_neither_signs_nor_accepts() {
    let agent = Agent::in_state(Handshake::Over);
    for text in [challenge(&STANDARD.encode([1; 32])), r#"{"type":"auth_ok"}"#.to_owned()] {
        assert_eq!(failed(agent.reads(&text)), HandshakeFailure::UnexpectedType);
    }
    assert!(agent.signed.borrow().is_empty());
}

/// A frame of the handshake, valid or not, or any text.
fn frame() -> impl Strategy<Value = String> {
    prop_oneof![
        (0usize..300).prop_map(|size| challenge(&STANDARD.encode(vec![1; size]))),
        Just(challenge_offering(&STANDARD.encode([1; 32]), r#"["binary"]"#)),
        Just(challenge_offering(&STANDARD.encode([1; 32]), r#"["binary","auth2"]"#)),
        Just(challenge(&STANDARD.encode(statement(COORDINATOR, &[1; 32], &[9; CLIENT_NONCE])))),
        Just(r#"{"type":"auth_ok"}"#.to_owned()),
        Just(r#"{"type":"auth_ok","provider_id":"a b"}"#.to_owned()),
        ".{0,40}",
    ]
}

proptest! {
    #[test]
    fn whatever_arrives_at_most_one_nonce_is_signed_before_one_end(
        frames in prop::collection::vec(frame(), 1..8), requires_auth2: bool,
    ) {
        let agent = Agent { requires_auth2, ..Agent::in_state(Handshake::default()) };
        let mut accepted = 0;
        for text in frames {
            let before = agent.state.get();
            let step = agent.reads(&text);
            if let Step::Accepted { .. } = step {
                let in_turn = matches!(before, Handshake::AwaitingVerdict { .. });
                prop_assert!(in_turn);
                accepted += 1;
            }
        }
        let signed = agent.signed.borrow();
        prop_assert!(signed.len() <= 1 && accepted <= signed.len());
        prop_assert!(signed.iter().all(|nonce| NONCE_BYTES.contains(&nonce.len())));
        let right = statement(COORDINATOR, &[1; 32], &[9; CLIENT_NONCE]);
        let is_statement = |signed: &Vec<u8>| is_like_a_statement(signed);
        prop_assert!(signed.iter().filter(|signed| is_statement(signed)).all(|signed| *signed == right));
        prop_assert!(!requires_auth2 || signed.iter().all(is_statement));
    }
}

#[test]
fn a_nonce_is_not_signed_again_on_a_later_connection() {
    let agent = Agent::in_state(Handshake::default());
    let first = challenge(&STANDARD.encode([1; 32]));
    assert!(matches!(agent.reads(&first), Step::Send(_)));
    for _ in 0..2 {
        agent.state.set(Handshake::default());
        assert_eq!(failed(agent.reads(&first)), HandshakeFailure::UsedNonce);
    }
    agent.state.set(Handshake::default());
    assert!(matches!(agent.reads(&challenge(&STANDARD.encode([2; 32]))), Step::Send(_)));
    assert_eq!(*agent.signed.borrow(), [[1; 32], [2; 32]]);
}
