//! OpenAI's responses: the last event of a stream contains the whole `response`, which becomes the body unchanged.

use super::AssembleError;
use super::parts::{Budget, Kept, object};
use crate::core::formats::openai::ResponseEvent;

/// A `response` that is being received.
pub(crate) struct LastResponse {
    budget: Budget,
    response: Kept,
}

impl LastResponse {
    /// An assembly that keeps at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { budget: Budget::new(limit), response: Kept::default() }
    }

    /// Handles the data of the next event, which is not an error. Not to be used after an error.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<(), AssembleError> {
        // Some servers send the end mark of another endpoint after the last event, or before it.
        if data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let event: ResponseEvent<'_> = object(data)?;
        if matches!(event.kind, "response.completed" | "response.incomplete") {
            let response = event.response.filter(|response| response.get().starts_with('{'));
            return self.response.last(Some(response.ok_or(AssembleError::Malformed)?), &mut self.budget);
        }
        Ok(())
    }

    /// The stream has ended successfully: the `response`.
    pub(crate) fn finish(self) -> Result<Vec<u8>, AssembleError> {
        let response = self.response.into_inner().ok_or(AssembleError::Empty)?;
        Ok(String::from(Box::<str>::from(response)).into_bytes())
    }
}
