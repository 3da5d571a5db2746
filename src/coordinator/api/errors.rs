//! The errors of the API, in any of its formats. [`openai`] and [`anthropic`] have the shapes of the bodies.
//!
//! [`openai`]: super::openai
//! [`anthropic`]: super::anthropic

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;

use super::backend_refusal::BackendRefusal;
use super::error_kind::ApiErrorKind;
use super::keyless::NotLocal;
use super::request::RequestError;
use super::{anthropic, openai};
use crate::coordinator::fleet::job_result::JobResult;
use crate::coordinator::fleet::response_channel::ResponseEnd;
use crate::coordinator::fleet::retry::Failure;
use crate::core::formats::assemble::AssembleError;
use crate::messages::backend::Format;
use crate::messages::endpoint::Endpoint;
use crate::messages::ids::ModelId;
use crate::messages::untrusted::Untrusted;
use crate::messages::wire::ErrorCode;

/// Why a client gets no response, or an incomplete one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// The API key is missing or wrong.
    #[error("the API key is missing or wrong: send it as `Authorization: Bearer KEY` or `x-api-key`")]
    Unauthorized,
    /// The API has no key, and the request may not come from a program on this machine.
    #[error(transparent)]
    NotLocal(#[from] NotLocal),
    /// The API has no key, and `Content-Type` is not JSON: the form of a web page could send such a body.
    #[error("without an API key the Content-Type of a request must be application/json")]
    NotJsonType,
    /// The API has no such path or method.
    #[error("no such endpoint")]
    NoSuchEndpoint,
    /// The body is over the limit.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body is within the limit, but the `job` message that holds it is not.
    #[error("the request makes a message of {length} bytes to an agent, and the limit is {limit}")]
    MessageTooLarge {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Other requests use all the memory for request bodies.
    #[error("other requests use all the memory for requests")]
    Overloaded,
    /// The body was incomplete, or took too long.
    #[error("the request body did not arrive")]
    NoBody,
    /// The body is not a valid request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No agent offers the model.
    #[error("no connected agent offers the model \"{}\"", Untrusted(.0.as_str()))]
    UnknownModel(ModelId),
    /// No agent that offers the model offers it at this path.
    #[error("no connected agent offers the model \"{}\" at {}", Untrusted(.model.as_str()), .endpoint.path())]
    UnknownPath {
        /// The model.
        model: ModelId,
        /// The path.
        endpoint: Endpoint,
    },
    /// All agents that offer the model are draining or have no connection. They may come back.
    #[error("no agent offers the model \"{}\" now: those that did are being stopped or have lost their connection", Untrusted(.model.as_str()))]
    NotOfferedNow {
        /// The model.
        model: ModelId,
        /// Whether an agent had the request before and failed.
        tried: bool,
    },
    /// All agents that offer the model are at their limits, and none had a slot in time.
    #[error("all agents that offer this model are busy")]
    Full {
        /// Whether an agent had the request before and failed.
        tried: bool,
    },
    /// All agents that offer the model are at their limits, and too many requests wait for one.
    #[error("all agents that offer this model are busy, and too many requests wait for them")]
    QueueFull {
        /// Whether an agent had the request before and failed.
        tried: bool,
    },
    /// The coordinator is being stopped.
    #[error("the coordinator is shutting down")]
    Stopping,
    /// The agent reported an error.
    #[error("the agent failed: {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Agent {
        /// Why.
        code: ErrorCode,
        /// The agent's message.
        message: String,
    },
    /// The backend refuses the request itself.
    #[error("the backend answered {}", .0.status())]
    Backend(BackendRefusal),
    /// The agent's connection ended before the job was sent to it, or before the job ended.
    #[error("the connection to the agent was lost")]
    Lost {
        /// Whether it was sent.
        sent: bool,
        /// Whether the same agent may get the request again.
        spares_agent: bool,
    },
    /// The job took too long.
    #[error("the agent did not answer in time")]
    Late,
    /// The agent's response can't be read.
    #[error("the agent's answer can't be read")]
    Garbled,
    /// The client read slower than the agent sent.
    #[error("the answer was read too slowly")]
    TooSlow,
    /// The response can't be assembled into one object.
    #[error("the agent's answer can't be assembled")]
    NotAssembled(#[from] AssembleError),
}

impl ApiError {
    /// The agent is lost, and does not get the request again.
    pub(crate) const LOST: Self = Self::Lost { sent: true, spares_agent: false };

    /// The error for the end of a response.
    pub(crate) fn of(end: ResponseEnd) -> Self {
        match end {
            ResponseEnd::Failed { code, message } => Self::Agent { code, message },
            ResponseEnd::NotSent => Self::Lost { sent: false, spares_agent: true },
            ResponseEnd::AgentLost => Self::LOST,
            ResponseEnd::AgentRestarted => Self::Lost { sent: true, spares_agent: true },
            ResponseEnd::Deadline => Self::Late,
            ResponseEnd::SlowClient => Self::TooSlow,
            // `Done` is an error only if there was no response before it.
            ResponseEnd::Unreadable | ResponseEnd::Done(_) => Self::Garbled,
        }
    }

    /// The kind of this error.
    pub(crate) fn kind(&self) -> ApiErrorKind {
        match self {
            Self::Unauthorized => ApiErrorKind::Key,
            Self::NoSuchEndpoint => ApiErrorKind::Endpoint,
            Self::NotLocal(_) => ApiErrorKind::Forbidden,
            Self::NotJsonType => ApiErrorKind::MediaType,
            Self::TooLarge { .. } | Self::MessageTooLarge { .. } => ApiErrorKind::Size,
            Self::Overloaded => ApiErrorKind::Overloaded,
            Self::NoBody | Self::Request(_) => ApiErrorKind::Request,
            Self::UnknownModel(_) => ApiErrorKind::Model,
            Self::UnknownPath { .. } => ApiErrorKind::Path,
            Self::NotOfferedNow { .. } => ApiErrorKind::Unavailable,
            Self::Full { .. } | Self::QueueFull { .. } => ApiErrorKind::Capacity,
            Self::Backend(_) => ApiErrorKind::Request,
            Self::Stopping => ApiErrorKind::Stopping,
            Self::Agent { code, .. } => match code {
                ErrorCode::OutOfCapacity => ApiErrorKind::Capacity,
                ErrorCode::ModelNotLoaded => ApiErrorKind::Model,
                ErrorCode::BackendTimeout => ApiErrorKind::Timeout,
                ErrorCode::BackendUnreachable | ErrorCode::AuthRejectedByBackend | ErrorCode::Internal => {
                    ApiErrorKind::Upstream
                }
            },
            Self::Late => ApiErrorKind::Timeout,
            Self::Lost { .. } | Self::Garbled | Self::TooSlow | Self::NotAssembled(_) => ApiErrorKind::Upstream,
        }
    }

    /// Whether the request was refused before a job was made of it.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Unauthorized
            | Self::NotLocal(_)
            | Self::NotJsonType
            | Self::NoSuchEndpoint
            | Self::TooLarge { .. }
            | Self::MessageTooLarge { .. }
            | Self::Overloaded
            | Self::NoBody
            | Self::Request(_)
            | Self::UnknownModel(_)
            | Self::UnknownPath { .. }
            | Self::Stopping => true,
            Self::NotOfferedNow { tried, .. } | Self::Full { tried } | Self::QueueFull { tried } => !tried,
            Self::Agent { .. }
            | Self::Backend(_)
            | Self::Lost { .. }
            | Self::Late
            | Self::Garbled
            | Self::TooSlow
            | Self::NotAssembled(_) => false,
        }
    }

    /// How a job failed, for the rule of retries. `None` if no agent is to blame.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let (result, blames_request) = match self {
            Self::Agent { code, .. } => (JobResult::Agent(*code), false),
            Self::Backend(refusal) => (JobResult::Agent(refusal.code), refusal.blames_request()),
            Self::Lost { sent: true, .. } => (JobResult::AgentLost, false),
            Self::Lost { sent: false, .. } => (JobResult::NotSent, false),
            // With another agent it would be as large.
            Self::NotAssembled(AssembleError::TooLarge | AssembleError::TooMany) => return None,
            Self::Garbled | Self::NotAssembled(_) => (JobResult::UnreadableResponse, false),
            Self::Late => (JobResult::Deadline, false),
            Self::TooSlow => (JobResult::SlowClient, false),
            _ => return None,
        };
        let spares_agent = matches!(self, Self::Lost { spares_agent: true, .. });
        Some(Failure { result, blames_request, spares_agent })
    }

    /// The error as a response.
    pub(crate) fn response(&self, format: Format) -> HttpResponse {
        if let Self::Backend(refusal) = self {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return HttpResponse::build(status).content_type("application/json").body(refusal.body(format));
        }
        HttpResponse::build(self.kind().status()).content_type("application/json").body(self.body(format))
    }

    /// The error as the last event of a stream.
    pub(crate) fn event(&self, format: Format) -> Bytes {
        let name = match format {
            Format::OpenAi => "",
            Format::Anthropic => "event: error\n",
        };
        format!("{name}data: {}\n\n", self.body(format)).into()
    }

    fn body(&self, format: Format) -> String {
        let message = self.to_string();
        match format {
            Format::OpenAi => openai::error(self.kind(), &message),
            Format::Anthropic => anthropic::error(self.kind(), &message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::wire::{ResponseHead, Tokens};

    fn agent(code: ErrorCode) -> ApiError {
        ApiError::Agent { code, message: "why".into() }
    }

    #[test]
    fn every_code_has_its_status() {
        let status = |code| agent(code).kind().status().as_u16();
        let all: Vec<u16> = ErrorCode::ALL.into_iter().map(status).collect();
        assert_eq!(all, [429, 404, 502, 504, 502, 502]);
    }

    #[test]
    fn only_a_failure_of_an_agent_is_recorded_and_a_refusal_knows_whom_its_status_blames() {
        let backend = |status, code| {
            let refusal = BackendRefusal::of(&ResponseHead::new(status, ""), Vec::new(), code);
            ApiError::Backend(refusal.unwrap()).failure()
        };
        let failure = |result, blames_request| Some(Failure { blames_request, ..Failure::of(result) });
        for code in ErrorCode::ALL {
            assert_eq!(agent(code).failure(), failure(JobResult::Agent(code), false));
            assert_eq!(backend(400, code), failure(JobResult::Agent(code), true));
            assert_eq!(backend(429, code), failure(JobResult::Agent(code), false));
        }
        for (end, result) in
            [(ResponseEnd::NotSent, JobResult::NotSent), (ResponseEnd::AgentRestarted, JobResult::AgentLost)]
        {
            let spared = Failure { result, blames_request: false, spares_agent: true };
            assert_eq!(ApiError::of(end).failure(), Some(spared));
        }
        for (end, result) in [
            (ResponseEnd::AgentLost, JobResult::AgentLost),
            (ResponseEnd::Unreadable, JobResult::UnreadableResponse),
            (ResponseEnd::Deadline, JobResult::Deadline),
            (ResponseEnd::SlowClient, JobResult::SlowClient),
            (ResponseEnd::Done(Tokens::default()), JobResult::UnreadableResponse),
        ] {
            assert_eq!(ApiError::of(end).failure(), failure(result, false));
        }
        assert_eq!(ApiError::from(AssembleError::Truncated).failure(), failure(JobResult::UnreadableResponse, false));
        for error in [ApiError::from(AssembleError::TooLarge), ApiError::Stopping, ApiError::Full { tried: false }] {
            assert_eq!(error.failure(), None, "{error}");
        }
    }

    #[test]
    fn an_error_event_is_one_line_of_json_in_the_shape_of_its_api() {
        assert_eq!(
            ApiError::of(ResponseEnd::AgentLost).event(Format::OpenAi),
            "data: {\"error\":{\"message\":\"the connection to the agent was lost\",\"type\":\"server_error\",\
             \"param\":null,\"code\":\"upstream_error\"}}\n\n"
        );
        assert_eq!(
            ApiError::of(ResponseEnd::AgentLost).event(Format::Anthropic),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\
             \"message\":\"the connection to the agent was lost\"}}\n\n"
        );
    }
}
