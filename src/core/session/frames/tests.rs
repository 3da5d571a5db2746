//! What comes from a coordinator, well formed or not.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::JobId;
use crate::messages::wire::{AuthOk, Extensions, FromCoordinator, JobFrame, Taken, WantedJob};

const ID: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";

fn parse(text: &str) -> Result<FromCoordinator, FrameError> {
    FromCoordinator::parse(&Bytes::copy_from_slice(text.as_bytes()))
}

fn job(fields: &str) -> JobFrame {
    match parse(&format!(r#"{{"type":"job","job_id":"{ID}","model_id":"m","request":{{}}{fields}}}"#)) {
        Ok(FromCoordinator::Job(job)) => job,
        other => panic!("no job: {other:?}"),
    }
}

#[test]
fn a_job_keeps_its_request_as_received() {
    let text = format!(
        r#"{{"request": {{"messages" :[ "ü\n" ], "x":1e5}},"model_id":"m","job_id":"{ID}","type":"job","new":[{{}}]}}"#
    );
    let Ok(FromCoordinator::Job(job)) = parse(&text) else { panic!("no job") };
    assert_eq!(&job.request[..], r#"{"messages" :[ "ü\n" ], "x":1e5}"#.as_bytes());
    assert_eq!((job.endpoint, job.deadline), (Endpoint::ChatCompletions, Duration::from_secs(60)));
}

#[test]
fn a_deadline_is_an_integer_of_at_least_one_and_never_cut() {
    for (given, want) in [
        ("1", 1),
        ("60001", 60_001),
        ("4294967296", 4_294_967_296),
        ("18446744073709551615", u64::MAX),
        ("0", 60_000),
        ("-5", 60_000),
        ("1.5", 60_000),
        ("1e3", 60_000),
        ("\"5000\"", 60_000),
        ("null", 60_000),
        ("[1]", 60_000),
        ("18446744073709551616", 60_000),
    ] {
        assert_eq!(job(&format!(r#","deadline_ms":{given}"#)).deadline, Duration::from_millis(want), "{given}");
    }
}

#[test]
fn a_format_that_is_not_known_means_openai() {
    assert_eq!(job(r#","format":"anthropic""#).endpoint, Endpoint::Messages);
    for other in [r#""openai""#, r#""grpc""#, "null", "7"] {
        assert_eq!(job(&format!(r#","format":{other}"#)).endpoint, Endpoint::ChatCompletions, "{other}");
    }
}

#[test]
fn a_malformed_job_with_an_id_can_be_answered() {
    for body in [
        r#""request":{}"#,
        r#""model_id":"m""#,
        r#""model_id":7,"request":{}"#,
        r#""model_id":"","request":{}"#,
        r#""model_id":"m","request":[]"#,
        r#""model_id":"m","request":"{}""#,
        r#""model_id":"m","request":null"#,
    ] {
        let parsed = parse(&format!(r#"{{"type":"job","job_id":"{ID}",{body}}}"#));
        assert!(matches!(parsed, Ok(FromCoordinator::MalformedJob(_))), "{body}: {parsed:?}");
    }
}

#[test]
fn what_can_not_be_answered_is_an_error() {
    let cases = [
        ("", FrameError::NotAnObject),
        ("[]", FrameError::NotAnObject),
        ("{", FrameError::NotAnObject),
        (r#"{"a":1}"#, FrameError::NoType),
        (r#"{"type":7}"#, FrameError::NoType),
        (r#"{"type":"job","model_id":"m","request":{}}"#, FrameError::NoJobId),
        (r#"{"type":"job","job_id":"x","model_id":"m","request":{}}"#, FrameError::NoJobId),
        (r#"{"type":"job_cancel"}"#, FrameError::NoJobId),
        (r#"{"type":"auth_ok","provider_id":7}"#, FrameError::WrongType("provider_id")),
    ];
    for (text, error) in cases {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(parse(&deep), Err(FrameError::NotAnObject));
    assert_eq!(FromCoordinator::parse(&Bytes::from_static(b"{\"type\":\"\xff\"}")), Err(FrameError::NotAnObject));
}

#[test]
fn an_acknowledgement_has_an_offset_or_is_final() {
    let ack = |fields: &str| parse(&format!(r#"{{"type":"ack","job_id":"{ID}"{fields}}}"#));
    let taken = |taken| Ok(FromCoordinator::Ack { job_id: ID.parse().unwrap(), taken });
    assert_eq!(ack(r#","offset":7"#), taken(Taken::Bytes(7)));
    assert_eq!(ack(r#","offset":7,"final":true"#), taken(Taken::Terminal));
    assert_eq!(ack(r#","offset":7,"final":1"#), taken(Taken::Bytes(7)));
    for fields in
        ["", r#","final":false"#, r#","offset":-1"#, r#","offset":"7""#, r#","offset":1.5"#, r#","offset":null"#]
    {
        assert_eq!(ack(fields), Err(FrameError::WrongType("offset")), "{fields}");
    }
    assert_eq!(parse(r#"{"type":"ack","offset":7}"#), Err(FrameError::NoJobId));
}

#[test]
fn the_deadline_of_a_handover_is_one_second_to_ten_minutes() {
    let handover = |fields: &str| parse(&format!(r#"{{"type":"handover"{fields}}}"#));
    for (ms, deadline) in
        [("1000", Some(1)), ("600000", Some(600)), ("999", None), ("600001", None), ("\"2000\"", None)]
    {
        let deadline = deadline.map(Duration::from_secs);
        assert_eq!(handover(&format!(r#","deadline_ms":{ms}"#)), Ok(FromCoordinator::Handover { deadline }), "{ms}");
    }
    assert_eq!(handover(""), Ok(FromCoordinator::Handover { deadline: None }));
}

#[test]
fn an_id_is_echoed_in_the_letters_it_came_in() {
    let upper = ID.to_uppercase();
    let parsed = parse(&format!(r#"{{"type":"job_cancel","job_id":"{upper}"}}"#));
    let Ok(FromCoordinator::JobCancel { job_id }) = parsed else { panic!("no cancel") };
    assert_eq!(job_id.as_str(), upper);
}

#[test]
fn a_frame_reads_back_as_it_was_written() {
    let job = job(r#","deadline_ms":5,"format":"anthropic""#);
    for frame in [
        FromCoordinator::AuthChallenge { nonce: "bm9uY2U=".into(), extensions: Extensions::NONE },
        FromCoordinator::AuthChallenge { nonce: "bm9uY2U=".into(), extensions: Extensions::all() },
        FromCoordinator::AuthOk(AuthOk { provider_id: Some("p-1".into()), ..AuthOk::default() }),
        FromCoordinator::AuthOk(AuthOk::default()),
        FromCoordinator::AuthFailed { reason: None },
        FromCoordinator::JobCancel { job_id: job.job_id },
        FromCoordinator::Ack { job_id: job.job_id, taken: Taken::Bytes(u64::MAX) },
        FromCoordinator::Ack { job_id: job.job_id, taken: Taken::Terminal },
        FromCoordinator::Handover { deadline: Some(Duration::from_secs(30)) },
        FromCoordinator::Handover { deadline: None },
        FromCoordinator::AuthOk(AuthOk {
            provider_id: None,
            session: Some("s-1".parse().unwrap()),
            resume_window: Some(Duration::from_mins(1)),
            resumed: true,
            jobs: Some(vec![WantedJob { job_id: job.job_id, offset: 7 }]),
        }),
        FromCoordinator::Job(job),
        FromCoordinator::Unknown { kind: "news".into() },
    ] {
        let text = serde_json::to_vec(&frame).unwrap();
        assert_eq!(FromCoordinator::parse(&text.into()), Ok(frame));
    }
}

/// The id of the job that a frame is answered for: it is worked, or ended with an error.
fn answered(frame: &[u8]) -> Option<JobId> {
    match FromCoordinator::parse(&Bytes::copy_from_slice(frame)) {
        Ok(FromCoordinator::Job(job)) => Some(job.job_id),
        Ok(FromCoordinator::MalformedJob(job)) => Some(job.job_id),
        _ => None,
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn a_job_that_nests_too_deeply_can_be_answered_wherever_its_id_is() {
    let (head, deep) = (format!(r#""type":"job","job_id":"{ID}","model_id":"m""#), nested(1030));
    for frame in [
        format!(r#"{{{head},"request":{{"x":{deep}}}}}"#),
        format!(r#"{{"request":{{"x":{deep}}},{head}}}"#),
        format!(r#"{{"request":{{}},"more":{deep},{head}}}"#),
        format!(r#"{{{head},"request":{{"x":{}}}}}"#, nested(1_000_000)),
    ] {
        let parsed = parse(&frame);
        assert!(matches!(parsed, Ok(FromCoordinator::MalformedJob(_))), "{parsed:?}");
        assert_eq!(answered(frame.as_bytes()), Some(ID.parse().unwrap()));
    }
}

#[test]
fn a_job_that_is_broken_can_be_answered_where_its_type_and_id_can_be_read() {
    let head = format!(r#"{{"type":"job","job_id":"{ID}""#);
    for behind in [
        "",
        ",",
        r#","model_id":"m","request":{"messages":[{"content":"and then"#,
        r#","model_id":"m","request":{}} and more"#,
        r#","model_id":"m","request":{}}{}"#,
        r#","model_id":"m","request":{"a":tru}}"#,
        ",\"model_id\":\"m\",\"request\":{\"a\":\"a\nb\"}}",
        r#","job_id":7,"model_id":"m","request":{}}"#,
        r#","type":null,"model_id":"m","request":{}}"#,
    ] {
        assert_eq!(answered(format!("{head}{behind}").as_bytes()), Some(ID.parse().unwrap()), "{behind}");
    }
    let not_utf8 = [head.as_bytes(), b",\"model_id\":\"\xff\",\"request\":{}}"].concat();
    assert_eq!(answered(&not_utf8), Some(ID.parse().unwrap()));
    // It names no job, or another frame does.
    for other in [
        format!(r#"{{"request":{{"type":"job","job_id":"{ID}"}},"#),
        format!(r#"{{"type":"job_cancel","job_id":"{ID}","#),
        format!(r#"{{"type":"job","id":"{ID}","#),
        r#"{"type":"job","job_id":"6f1c","#.to_owned(),
    ] {
        assert_eq!(parse(&other), Err(FrameError::NotAnObject), "{other}");
    }
}

/// A value of any shape, some deeper than is gone into.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        r"null|true|-1|0\.5e3|7",
        r#""([a-z{}\[\],:]|\\"|\\u00e9|\\ud800){0,12}""#,
        Just(r#"{"type":"job_cancel","job_id":"x","request":[{"type":"job"}]}"#.to_owned()),
        Just("{}".to_owned()),
        (0_usize..2100).prop_map(nested),
    ]
}

proptest! {
    #[test]
    fn a_job_with_a_readable_id_is_answered_whatever_its_other_members_are(
        others in prop::collection::vec((r#"request|model_id|format|deadline_ms|endpoint|stream|nonce|x|type|job_id"#, value()), 0..6),
        at in prop::sample::select(vec![0_usize, 1, 2, 3, 4, 5, 6]),
    ) {
        // Of these two a later member that is a text is another one's.
        let is_ours = |(key, value): &(String, String)| !(key == "type" || key == "job_id") || !value.starts_with('"');
        let mut members: Vec<String> =
            others.iter().filter(|member| is_ours(member)).map(|(key, value)| format!("\"{key}\":{value}")).collect();
        members.insert(at.min(members.len()), format!(r#""job_id":"{ID}""#));
        members.insert(at.min(members.len()) / 2, r#""type":"job""#.to_owned());
        let frame = format!("{{{}}}", members.join(","));
        prop_assert_eq!(answered(frame.as_bytes()), Some(ID.parse().unwrap()), "{}", frame);
    }

    #[test]
    fn a_job_is_answered_whatever_breaks_behind_its_type_and_id(
        at in 0_usize..80, with in prop::collection::vec(any::<u8>(), 0..4), without in 0_usize..30, cut: bool,
    ) {
        let head = format!(r#"{{"type":"job","job_id":"{ID}""#);
        let rest = br#","model_id":"m","request":{"messages":[{"content":"a\"b","x":[1,{}]}]},"format":"openai"}"#;
        let at = at.min(rest.len());
        let behind = if cut { &[][..] } else { &rest[(at + without).min(rest.len())..] };
        let frame = [head.as_bytes(), &rest[..at], &with, behind].concat();
        // A second id or type that the break has made would be the last one, but none can be made of these letters.
        prop_assert_eq!(answered(&frame), Some(ID.parse().unwrap()), "{:?}", String::from_utf8_lossy(&frame));
    }
}

#[test]
fn a_list_of_far_more_wanted_jobs_than_an_agent_keeps_is_not_read() {
    let job = r#"{"job_id":"6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10","offset":18446744073709551615}"#;
    for (jobs, read) in [(4096, Some(4096)), (40_000, None)] {
        let list = vec![job; jobs].join(",");
        let frame = format!(r#"{{"type":"auth_ok","resumed":true,"jobs":[{list}]}}"#);
        let Ok(FromCoordinator::AuthOk(ok)) = FromCoordinator::parse(&frame.into()) else { panic!("no auth_ok") };
        assert_eq!(ok.jobs.map(|jobs| jobs.len()), read);
    }
}
