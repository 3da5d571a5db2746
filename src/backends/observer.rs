//! Looks at one server of a known kind, again and again, and remembers what need not be asked each time. Driven by the
//! sources of `configured` and `auto`.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;

use super::LookError;
use super::api::{self, ApiClient};
use super::kinds::{llamacpp, lmstudio, ollama, openai, vllm};
use super::offer::Offer;
use super::upload::Pieces;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::BackendReport;
use crate::messages::endpoint::Endpoint;

/// How long a server may take to say whether it serves `/v1/messages`.
const MESSAGES: Duration = Duration::from_secs(1);

/// One server, seen from one thread.
pub(super) struct Observer {
    kind: BackendKind,
    api: ApiClient,
    /// Whether the server has `/v1/messages`: asked once while it stays up. Empty from the start of a look until it
    /// succeeds, so that a look that fails or is dropped leaves nothing behind.
    messages: Cell<Option<bool>>,
}

impl Observer {
    pub(super) fn new(kind: BackendKind, api: ApiClient) -> Self {
        Self { kind, api, messages: Cell::new(None) }
    }

    /// One look. Asks for everything at once; only what names the models must be answered.
    pub(super) async fn look(&self) -> Result<BackendReport, LookError> {
        let known = self.messages.take();
        let messages = async {
            Ok(match known {
                Some(known) => Some(known),
                None => has_messages(&self.api).await,
            })
        };
        let (Offer { mut models, slots }, messages) = future::try_join(self.offer(), messages).await?;
        self.messages.set(messages);
        if messages.unwrap_or(false) {
            models.iter_mut().for_each(|model| model.endpoints = model.endpoints.with(Endpoint::Messages));
        }
        Ok(BackendReport { kind: self.kind, models, slots, busy: None })
    }

    async fn offer(&self) -> Result<Offer, LookError> {
        match self.kind {
            BackendKind::Vllm => vllm::offer(&self.api).await,
            BackendKind::LlamaCpp => llamacpp::offer(&self.api).await,
            BackendKind::LmStudio => lmstudio::offer(&self.api).await,
            BackendKind::Ollama => ollama::offer(&self.api).await,
            BackendKind::OpenAi => openai::offer(&self.api).await,
        }
    }
}

/// Sends an empty object, which is a valid request nowhere and so generates nothing. `None`: the server did not say.
async fn has_messages(api: &ApiClient) -> Option<bool> {
    let body = Pieces::new(vec![Bytes::from_static(b"{}")]);
    let asked = api::head(api.post(Endpoint::Messages).send_body(body));
    let response = tokio::time::timeout(MESSAGES, asked).await.ok()?.ok()?;
    served(response.status().as_u16())
}

/// What the status of the answer to an empty object says of the path.
fn served(status: u16) -> Option<bool> {
    match status {
        // Busy or not there yet.
        408 | 429 | 502..=504 => None,
        404 | 405 | 501 => Some(false),
        // Its models can be seen and this can't: a key opens the one and not the other.
        401 | 403 => Some(false),
        // Refused for what it lacks; llama.cpp answers that with 500.
        400..=500 => Some(true),
        // A success is no answer to an empty object, but LM Studio's to a path that it does not have.
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_request_shows_that_the_path_is_served() {
        for (status, expected) in [
            (400, Some(true)),
            (422, Some(true)),
            (500, Some(true)),
            (404, Some(false)),
            (405, Some(false)),
            (501, Some(false)),
            (200, Some(false)),
            (302, Some(false)),
            (401, Some(false)),
            (503, None),
            (429, None),
        ] {
            assert_eq!(served(status), expected, "{status}");
        }
    }
}
