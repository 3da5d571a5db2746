//! Why a request is refused, and the response body that reports it.

use crate::core::formats::{anthropic, openai};
use crate::core::json::Malformed;
use crate::messages::backend::Format;

/// The status of the response with [`PolicyError::body`].
const STATUS: u16 = 400;

/// Why a request is refused. Each is a client error. The text quotes nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the text of one JSON object.
    #[error("the request is not a JSON object")]
    NotAnObject,
    /// More members than any valid request has.
    #[error("a request may have at most {0} members")]
    TooManyMembers(usize),
    /// Media that the backend would fetch or read from its own disk.
    #[error("media must be part of the request, as data: URLs: this server does not fetch media")]
    RemoteMedia,
    /// A serialized tensor, which the backend would load.
    #[error("embeddings as input (image_embeds and the like): not supported")]
    Tensor,
    /// A reference to something that an earlier request left at the backend.
    #[error("{0}: not supported, because this server keeps nothing between requests; send the content itself")]
    Stored(&'static str),
    /// Work that continues after the client has disconnected.
    #[error("background: not supported, because a request ends when its client disconnects")]
    Background,
    /// Servers that the backend would call.
    #[error("mcp_servers: not supported, because this server calls no other servers")]
    McpServers,
    /// A tool that the backend's side would run.
    #[error("tools: only tools that the client runs are supported")]
    ServerTool,
    /// The list of tools is not a list of objects.
    #[error("tools: not a list of objects")]
    BadTools,
    /// A number that can't be read, and so can't be bounded.
    #[error("{0}: not a number")]
    NotANumber(&'static str),
    /// More generations than one request may have.
    #[error("too many completions: n (or best_of) times the number of prompts may be at most {0}")]
    TooManyChoices(u64),
    /// More inputs than one request for embeddings may have.
    #[error("input: at most {0} inputs in one request")]
    TooManyInputs(u64),
}

impl From<Malformed> for PolicyError {
    fn from(_: Malformed) -> Self {
        Self::NotAnObject
    }
}

impl PolicyError {
    /// The status of the response.
    pub fn status(self) -> u16 {
        STATUS
    }

    /// The body of the response, in the format of the client's API.
    pub fn body(self, format: Format) -> Vec<u8> {
        let (message, kind) = (self.to_string(), "invalid_request_error");
        let body = match format {
            Format::Anthropic => anthropic::ErrorBody::new(kind, &message).json(),
            Format::OpenAi => openai::ErrorBody::new(kind, &message, None, None).json(),
        };
        body.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_format_of_the_clients_api() {
        let body = |format| String::from_utf8(PolicyError::Background.body(format)).unwrap();
        let message = "background: not supported, because a request ends when its client disconnects";
        assert_eq!(
            body(Format::OpenAi),
            format!(r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":null}}}}"#)
        );
        assert_eq!(
            body(Format::Anthropic),
            format!(r#"{{"type":"error","error":{{"type":"invalid_request_error","message":"{message}"}}}}"#)
        );
    }
}
