//! The session in an `auth_ok`, where `resume` was agreed on.

use super::*;
use crate::messages::wire::KeptJob;

fn kept_jobs() -> ResumeRequest {
    let job = KeptJob { job_id: ID.parse().unwrap(), offset: 7, ended: false };
    ResumeRequest { session: "s-1".parse().unwrap(), jobs: vec![job] }
}

/// What an agent that keeps jobs or none reads in an `auth_ok` with these fields.
fn verdict(offer: &str, keeps: bool, fields: &str) -> Result<Option<SessionGrant>, HandshakeFailure> {
    let mut agent = Agent::in_state(Handshake::default());
    agent.resume = keeps.then(kept_jobs);
    let nonce = STANDARD.encode([1; 32]);
    let step = agent.reads(&format!(r#"{{"type":"auth_challenge","nonce":"{nonce}","extensions":[{offer}]}}"#));
    let Step::Send(response) = step else { panic!("no answer") };
    assert_eq!(response.resume, agent.resume.clone().filter(|_| !offer.is_empty()));
    match agent.reads(&format!(r#"{{"type":"auth_ok"{fields}}}"#)) {
        Step::Accepted { session, .. } => Ok(session),
        other => Err(failed(other)),
    }
}

#[test]
fn an_agreed_session_is_opened_or_resumed() {
    let open = r#","session":"s-2","resume_window_ms":60000"#;
    let resumed = format!(r#"{open},"resumed":true,"jobs":[{{"job_id":"{ID}","offset":5}}]"#);
    let grant = |resumed| SessionGrant { name: "s-2".parse().unwrap(), window: Duration::from_mins(1), resumed };
    let wanted = vec![WantedJob { job_id: ID.parse().unwrap(), offset: 5 }];
    let offer = r#""resume""#;
    assert_eq!(verdict(offer, false, open), Ok(Some(grant(None))));
    assert_eq!(verdict(offer, true, open), Ok(Some(grant(None))));
    assert_eq!(verdict(offer, true, &format!(r#"{open},"resumed":false,"jobs":7"#)), Ok(Some(grant(None))));
    assert_eq!(verdict(offer, true, &resumed), Ok(Some(grant(Some(wanted)))));
    assert_eq!(verdict(offer, true, &format!(r#"{open},"resumed":true,"jobs":[]"#)), Ok(Some(grant(Some(Vec::new())))));
    assert_eq!(verdict(offer, false, &resumed), Ok(Some(grant(None))), "nothing was asked for");
    assert_eq!(verdict("", true, &resumed), Ok(None), "it was not agreed on");
}

#[test]
fn an_incomplete_session_fails_the_handshake() {
    let long = "s".repeat(129);
    for fields in [
        "",
        r#","session":"s""#,
        r#","resume_window_ms":60000"#,
        r#","session":"","resume_window_ms":60000"#,
        r#","session":"a b","resume_window_ms":60000"#,
        r#","session":7,"resume_window_ms":60000"#,
        &format!(r#","session":"{long}","resume_window_ms":60000"#),
        r#","session":"s","resume_window_ms":999"#,
        r#","session":"s","resume_window_ms":600001"#,
        r#","session":"s","resume_window_ms":-1"#,
        r#","session":"s","resume_window_ms":1e4"#,
        r#","session":"s","resume_window_ms":"60000""#,
        r#","session":"s","resume_window_ms":60000,"resumed":true"#,
        r#","session":"s","resume_window_ms":60000,"resumed":true,"jobs":{}"#,
        r#","session":"s","resume_window_ms":60000,"resumed":true,"jobs":[7]"#,
        r#","session":"s","resume_window_ms":60000,"resumed":true,"jobs":[{"job_id":"x","offset":1}]"#,
        &format!(r#","session":"s","resume_window_ms":60000,"resumed":true,"jobs":[{{"job_id":"{ID}","offset":-1}}]"#),
    ] {
        assert_eq!(verdict(r#""resume""#, true, fields), Err(HandshakeFailure::BadSession), "{fields}");
    }
}
