//! The fields of a client's request that the coordinator needs. The prompt is skipped, not parsed.
//!
//! The body is scanned with the scanner that agents use, so that no request is sent that an agent cannot read.

use std::borrow::Cow;

use serde::Deserialize;

use crate::core::formats::openai::StreamOptions;
use crate::core::json::{self, Malformed};
use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::ids::ModelId;

/// Bytes of a model's name.
const MAX_MODEL: usize = 512;

/// The fields of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// The model.
    pub(crate) model: ModelId,
    /// The requested form of the response.
    pub(crate) response: ResponseKind,
}

/// The requested form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseKind {
    /// One JSON object.
    Whole,
    /// Server-sent events, with a usage event at the end.
    StreamWithUsage,
    /// Server-sent events without it. Messages and responses have no such event and no such option.
    Stream,
}

impl ResponseKind {
    /// The same as a value of the protocol.
    pub(crate) fn form(self) -> AnswerForm {
        match self {
            Self::Whole => AnswerForm::Whole,
            Self::Stream | Self::StreamWithUsage => AnswerForm::Stream,
        }
    }
}

/// What is wrong with a request. Never holds any of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// Not JSON, or not UTF-8.
    #[error("the request body is not valid JSON")]
    NotJson,
    /// A value in it nests deeper than an agent accepts.
    #[error("the request body is nested too deeply")]
    TooDeep,
    /// JSON that is not an object, or an object with one of the fields of this module twice.
    #[error("the request body must be one JSON object with at most one of each field")]
    NotAnObject,
    /// No model.
    #[error("the request must name a model")]
    NoModel,
    /// The model is not a valid name.
    #[error("model must be a string of 1 to {MAX_MODEL} bytes")]
    BadModel,
    /// A field has another type.
    #[error("{0} has the wrong type")]
    WrongType(&'static str),
}

/// The fields, unparsed.
#[derive(Default)]
struct Fields<'a> {
    model: Option<&'a [u8]>,
    stream: Option<&'a [u8]>,
    stream_options: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn of(body: &'a [u8]) -> Result<Self, RequestError> {
        let (mut fields, mut twice) = (Self::default(), false);
        json::walk(body, |key, value| {
            let Ok(Text(name)) = serde_json::from_slice(key) else { return };
            let field = match name.as_ref() {
                "model" => &mut fields.model,
                "stream" => &mut fields.stream,
                "stream_options" => &mut fields.stream_options,
                _ => return,
            };
            twice |= field.replace(value).is_some();
        })?;
        if twice { Err(RequestError::NotAnObject) } else { Ok(fields) }
    }
}

impl From<Malformed> for RequestError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotAnObject => Self::NotAnObject,
            Malformed::Broken => Self::NotJson,
            Malformed::TooDeep => Self::TooDeep,
        }
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a request body. The response to a request for embeddings is always one object.
pub(crate) fn read(body: &[u8], endpoint: Endpoint) -> Result<RequestInfo, RequestError> {
    simdutf8::basic::from_utf8(body).map_err(|_| RequestError::NotJson)?;
    let fields = Fields::of(body)?;
    let model = fields.model.filter(|model| *model != b"null").ok_or(RequestError::NoModel)?;
    let Text(model) = serde_json::from_slice(model).map_err(|_| RequestError::BadModel)?;
    if !(1..=MAX_MODEL).contains(&model.len()) {
        return Err(RequestError::BadModel);
    }
    let streams = optional::<bool>(fields.stream, "stream")?.unwrap_or(false);
    let options = optional::<StreamOptions>(fields.stream_options, "stream_options")?.unwrap_or_default();
    let response = match (streams, options.include_usage.unwrap_or(false)) {
        _ if endpoint == Endpoint::Embeddings => ResponseKind::Whole,
        (false, _) => ResponseKind::Whole,
        (true, true) => ResponseKind::StreamWithUsage,
        (true, false) => ResponseKind::Stream,
    };
    Ok(RequestInfo { model: ModelId::from(model.as_ref()), response })
}

fn optional<'a, T: Deserialize<'a>>(raw: Option<&'a [u8]>, name: &'static str) -> Result<Option<T>, RequestError> {
    raw.map_or(Ok(None), |raw| serde_json::from_slice(raw).map_err(|_| RequestError::WrongType(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ids::JobId;
    use crate::messages::wire::FromCoordinator;

    #[test]
    fn the_model_and_the_kind_of_answer_are_found_among_other_fields() {
        for (fields, want) in [
            ("", ResponseKind::Whole),
            (r#","stream":false,"stream_options":{"include_usage":true}"#, ResponseKind::Whole),
            (r#","stream":null,"stream_options":null"#, ResponseKind::Whole),
            (r#","stream":true"#, ResponseKind::Stream),
            (r#","stream":true,"stream_options":{}"#, ResponseKind::Stream),
            (r#","stream":true,"stream_options":{"include_usage":true,"new":1}"#, ResponseKind::StreamWithUsage),
        ] {
            let body = format!(r#" {{"messages":[{{"content":"ü"}}],"model":"a\u002fb"{fields}}} "#);
            let fields_of = |endpoint| read(body.as_bytes(), endpoint).map(|request| (request.model, request.response));
            assert_eq!(fields_of(Endpoint::ChatCompletions), Ok((ModelId::from("a/b"), want)), "{fields}");
            assert_eq!(fields_of(Endpoint::Embeddings), Ok((ModelId::from("a/b"), ResponseKind::Whole)), "{fields}");
        }
    }

    #[test]
    fn an_invalid_request_is_refused_with_its_cause() {
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MAX_MODEL + 1));
        for (body, want) in [
            ("", RequestError::NotAnObject),
            ("{", RequestError::NotJson),
            (r#"{"model":"m"} {}"#, RequestError::NotJson),
            ("7", RequestError::NotAnObject),
            (r#"["m",true,null]"#, RequestError::NotAnObject),
            (r#"{"model":"m","model":"n"}"#, RequestError::NotAnObject),
            (r#"{"model":"m","mod\u0065l":"n"}"#, RequestError::NotAnObject),
            ("{}", RequestError::NoModel),
            (r#"{"model":null}"#, RequestError::NoModel),
            (r#"{"model":7}"#, RequestError::BadModel),
            (r#"{"model":""}"#, RequestError::BadModel),
            (long.as_str(), RequestError::BadModel),
            (r#"{"model":"m","stream":"yes"}"#, RequestError::WrongType("stream")),
            (r#"{"model":"m","stream_options":true}"#, RequestError::WrongType("stream_options")),
        ] {
            assert_eq!(read(body.as_bytes(), Endpoint::Messages), Err(want), "{body}");
        }
        assert_eq!(read(b"{\"model\":\"m\",\"x\":\"\xff\"}", Endpoint::Messages), Err(RequestError::NotJson));
    }

    #[test]
    fn a_request_is_refused_as_too_deep_exactly_where_an_agent_refuses_it() {
        for depth in 1020..1030 {
            let body = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            let frame = format!(r#"{{"type":"job","job_id":"{}","model_id":"m","request":{body}}}"#, JobId::random());
            let is_job = matches!(FromCoordinator::parse(&frame.into()), Ok(FromCoordinator::Job(_)));
            let read = read(body.as_bytes(), Endpoint::ChatCompletions);
            assert_eq!(read.as_ref().err(), (!is_job).then_some(&RequestError::TooDeep), "{depth}");
        }
    }
}
