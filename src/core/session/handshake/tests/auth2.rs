//! What is signed with the extension `auth2`, and what is not.

use super::*;

/// The bytes of a statement, put together by hand.
fn by_hand(coordinator: &str, nonce: &[u8], client_nonce: &[u8; 32]) -> Vec<u8> {
    let length = |part: &[u8]| [0, 0, (part.len() >> 8) as u8, part.len() as u8];
    let mut bytes = b"outpost/auth/v2\0".to_vec();
    for part in [coordinator.as_bytes(), nonce, client_nonce] {
        bytes.extend(length(part));
        bytes.extend(part);
    }
    bytes
}

#[test]
fn a_statement_that_names_the_coordinator_is_signed_instead_of_the_nonce() {
    for size in [16, 32, 256] {
        let agent = Agent::in_state(Handshake::default());
        let nonce = vec![5; size];
        let step = agent.reads(&challenge_offering(&STANDARD.encode(&nonce), r#"["auth2"]"#));
        let Step::Send(response) = step else { panic!("no answer") };
        assert_eq!(*agent.signed.borrow(), [by_hand(COORDINATOR, &nonce, &[9; 32])]);
        let signature = Signature::from_slice(&STANDARD.decode(&response.signature).unwrap()).unwrap();
        let key = agent.key.verifying_key();
        assert!(key.verify(&by_hand(COORDINATOR, &nonce, &[9; 32]), &signature).is_ok());
        assert!(key.verify(&nonce, &signature).is_err(), "not the bare nonce");
        assert_eq!(response.client_nonce, Some(STANDARD.encode([9; 32])));
        assert_eq!(response.extensions, [Extension::Auth2].into_iter().collect());
    }
}

#[test]
fn without_the_offer_the_nonce_is_signed_and_no_client_nonce_is_sent() {
    for offer in ["[]", r#"["binary"]"#, r#""auth2""#, r#"["auth3"]"#] {
        let agent = Agent::in_state(Handshake::default());
        let step = agent.reads(&challenge_offering(&STANDARD.encode([5; 32]), offer));
        let Step::Send(response) = step else { panic!("no answer") };
        assert_eq!((response.client_nonce.as_ref(), agent.signed.borrow().as_slice()), (None, &[vec![5; 32]][..]));
        let text = serde_json::to_string(&FromAgent::AuthResponse(response)).unwrap();
        assert!(!text.contains("client_nonce"), "{text}");
    }
}

#[test]
fn an_agent_that_requires_it_signs_nothing_for_a_coordinator_that_does_not_offer_it() {
    let nonce = STANDARD.encode([5; 32]);
    for text in [challenge(&nonce), challenge_offering(&nonce, r#"["binary","endpoints"]"#), challenge("")] {
        let agent = Agent { requires_auth2: true, ..Agent::in_state(Handshake::default()) };
        assert_eq!(failed(agent.reads(&text)), HandshakeFailure::Auth2NotOffered, "{text}");
        assert_eq!(agent.state.get(), Handshake::Over);
        assert!(agent.signed.borrow().is_empty());
        // The nonce was not noted either: it can still be signed as part of a statement.
        agent.state.set(Handshake::default());
        assert!(matches!(agent.reads(&challenge_offering(&nonce, r#"["auth2"]"#)), Step::Send(_)));
    }
}

#[test]
fn a_nonce_that_is_the_statement_for_another_coordinator_is_not_signed() {
    for nonce in [
        by_hand("other.example:443", &[5; 32], &[6; 32]),
        by_hand("", &[], &[6; 32]),
        by_hand("", &[], &[6; 32])[..16].into(),
    ] {
        let agent = Agent::in_state(Handshake::default());
        assert_eq!(failed(agent.reads(&challenge(&STANDARD.encode(&nonce)))), HandshakeFailure::StatementAsNonce);
        assert!(agent.signed.borrow().is_empty());
        // Within a statement it is a nonce like any other.
        agent.state.set(Handshake::default());
        let step = agent.reads(&challenge_offering(&STANDARD.encode(&nonce), r#"["auth2"]"#));
        assert!(matches!(step, Step::Send(_)));
        assert_eq!(*agent.signed.borrow(), [by_hand(COORDINATOR, &nonce, &[9; 32])]);
    }
}

#[test]
fn bad_and_used_nonces_are_refused_with_it_too() {
    let agent = Agent::in_state(Handshake::default());
    let auth2 = |nonce: &[u8]| challenge_offering(&STANDARD.encode(nonce), r#"["auth2"]"#);
    for size in [0, 15, 257] {
        assert_eq!(failed(agent.reads(&auth2(&vec![5; size]))), HandshakeFailure::BadNonce, "{size}");
        agent.state.set(Handshake::default());
    }
    assert!(matches!(agent.reads(&auth2(&[5; 32])), Step::Send(_)));
    for text in [auth2(&[5; 32]), challenge(&STANDARD.encode([5; 32]))] {
        agent.state.set(Handshake::default());
        assert_eq!(failed(agent.reads(&text)), HandshakeFailure::UsedNonce, "{text}");
    }
    assert_eq!(agent.signed.borrow().len(), 1);
}
