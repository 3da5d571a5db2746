//! The errors of the API, in any of its formats. [`openai`] and [`anthropic`] have the shapes of the bodies.
//!
//! [`openai`]: super::openai
//! [`anthropic`]: super::anthropic

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use bytes::Bytes;

use super::backend_refusal::BackendRefusal;
use super::error_kind::ApiErrorKind;
use super::keyless::NotLocal;
use super::request::RequestError;
use super::{anthropic, openai};
use crate::coordinator::fleet::response_channel::ResponseEnd;
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
    #[error("the API key is missing or wrong")]
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
    /// All agents that offer the model are draining: they take no new job, and may come back.
    #[error("no agent offers the model \"{}\" now: those that did are being stopped", Untrusted(.0.as_str()))]
    NotOfferedNow(ModelId),
    /// All agents that offer the model are at their limits.
    #[error("all agents that offer this model are busy")]
    Full,
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

/// Whether a request that failed with one agent may be sent to another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It may: this agent did not start the job.
    NotTaken,
    /// It may, but not often: the connection of this agent was lost, and the request may be the cause.
    Lost,
    /// It may not.
    No,
}

impl ApiError {
    /// The error for the end of a response.
    pub(crate) fn of(end: ResponseEnd) -> Self {
        match end {
            ResponseEnd::Failed { code, message } => Self::Agent { code, message },
            ResponseEnd::NotSent => Self::Lost { sent: false },
            ResponseEnd::AgentLost => Self::Lost { sent: true },
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
            Self::NotOfferedNow(_) => ApiErrorKind::Unavailable,
            Self::Full => ApiErrorKind::Capacity,
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
            | Self::NotOfferedNow(_)
            | Self::Full
            | Self::Stopping => true,
            Self::Agent { .. }
            | Self::Backend(_)
            | Self::Lost { .. }
            | Self::Late
            | Self::Garbled
            | Self::TooSlow
            | Self::NotAssembled(_) => false,
        }
    }

    /// Whether another agent may get the request, as long as the client has received no bytes of a response.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Agent { code, .. } | Self::Backend(BackendRefusal { code, .. })
                if matches!(code, ErrorCode::OutOfCapacity | ErrorCode::ModelNotLoaded) =>
            {
                Retry::NotTaken
            }
            Self::Lost { sent: false } => Retry::NotTaken,
            Self::Lost { sent: true } => Retry::Lost,
            _ => Retry::No,
        }
    }

    /// The error as a response.
    pub(crate) fn response(&self, format: Format) -> HttpResponse {
        if let Self::Backend(refusal) = self {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return HttpResponse::build(status).content_type("application/json").body(refusal.body(format));
        }
        let kind = self.kind();
        let mut response = HttpResponse::build(kind.status());
        let is_temporary = matches!(
            kind,
            ApiErrorKind::Capacity | ApiErrorKind::Unavailable | ApiErrorKind::Overloaded | ApiErrorKind::Stopping
        );
        if is_temporary {
            response.insert_header((RETRY_AFTER, "1"));
        }
        response.content_type("application/json").body(self.body(format))
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
    fn a_job_that_an_agent_refused_or_lost_may_be_retried_with_another_agent() {
        let is_refusal = |code: &ErrorCode| agent(*code).retry() == Retry::NotTaken;
        let refusals: Vec<_> = ErrorCode::ALL.into_iter().filter(is_refusal).collect();
        assert_eq!(refusals, [ErrorCode::OutOfCapacity, ErrorCode::ModelNotLoaded]);
        assert_eq!(agent(ErrorCode::Internal).retry(), Retry::No);
        assert_eq!(ApiError::of(ResponseEnd::NotSent).retry(), Retry::NotTaken);
        assert_eq!(ApiError::of(ResponseEnd::AgentLost).retry(), Retry::Lost);
        assert_eq!(ApiError::of(ResponseEnd::Deadline).retry(), Retry::No);
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
