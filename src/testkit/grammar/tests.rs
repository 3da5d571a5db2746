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
fn a_response_has_a_client_nonce_only_with_auth2() {
    let response = |more: &str| {
        format!(r#"{{"type":"auth_response","pubkey":"","signature":"","agent_version":""{more}}}"#).into_bytes()
    };
    let (auth2, nonce) = (r#","extensions":["auth2"]"#, r#","client_nonce":"AA==""#);
    let check = |more: &str| {
        let grammar = Grammar::default();
        grammar.offered(Extensions::all());
        grammar.check(&response(more)).is_ok()
    };
    assert!(check("") && check(&format!("{auth2}{nonce}")));
    assert!(!check(auth2) && !check(nonce) && !check(&format!(r#","extensions":["binary"]{nonce}"#)));
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
fn offers_have_a_largest_message_only_if_sizes_was_agreed_on() {
    let offer = |more: &str| {
        let limits = format!(r#"{{"max_concurrent_total":1,"max_tokens_per_minute":null{more}}}"#);
        let rest = r#""metadata":{"agent_version":"1"}"#;
        format!(r#"{{"type":"capabilities","models":[],"limits":{limits},{rest}}}"#).into_bytes()
    };
    let (base, extended) = (offer(""), offer(r#","max_message_bytes":65536"#));
    let grammar = Grammar::default();
    assert_eq!((grammar.check(&base).is_ok(), grammar.check(&extended).is_ok()), (true, false));
    grammar.agreed.set([Extension::Sizes].into_iter().collect());
    assert_eq!((grammar.check(&base).is_ok(), grammar.check(&extended).is_ok()), (false, true));
}

#[test]
fn a_drain_is_announced_once_and_only_if_it_was_agreed_on() {
    let drain = br#"{"type":"drain","in_flight":0}"#;
    let grammar = Grammar::default();
    assert!(grammar.check(drain).is_err(), "not agreed on");
    grammar.agreed.set([Extension::Drain].into_iter().collect());
    assert!(grammar.check(br#"{"type":"drain"}"#).is_err());
    let grammar = Grammar { agreed: grammar.agreed, ..Grammar::default() };
    assert_eq!(grammar.check(drain), Ok(()));
    assert!(grammar.check(drain).is_err(), "again");
}

#[test]
fn a_frame_of_a_job_that_was_not_sent_or_has_ended_is_a_fault() {
    let grammar = Grammar::default();
    let error =
        format!(r#"{{"type":"job_error","job_id":"{ID}","error_code":"internal","message":"","tokens_emitted":0}}"#);
    assert!(grammar.check(error.as_bytes()).is_err());
    grammar.sent(ID.parse().unwrap());
    assert_eq!(grammar.check(error.as_bytes()), Ok(()));
    assert!(grammar.check(error.as_bytes()).is_err());
}
