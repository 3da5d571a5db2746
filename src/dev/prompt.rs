//! A small client of the coordinator's API: which models there are, and one chat, streamed to the terminal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use awc::ClientRequest;
use awc::http::header::AUTHORIZATION;
use futures_util::StreamExt;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::core::formats::error_body::ErrorBody;
use crate::core::formats::openai::{
    ChatChoice, ChatRequest, Completion, CompletionReport, Content, ModelList, RequestMessage,
};
use crate::core::formats::sse::{EVENT_LIMIT, SseSplitter};
use crate::core::json::{Few, object};
use crate::messages::secret::Secret;
use crate::messages::untrusted::Untrusted;

/// Why the prompt has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    /// The connection to the coordinator broke.
    #[error("the connection to the coordinator broke")]
    Broken,
    /// It answered with an error.
    #[error("the coordinator answered {status}: {}", Untrusted(message))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// The answer broke off.
    #[error("the answer broke off: {}", Untrusted(.0))]
    BrokenOff(String),
    /// The terminal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The body of a chat with one message.
pub(super) fn body(model: &str, prompt: &str) -> String {
    let message = RequestMessage { role: "user".into(), content: Some(Content::Text(prompt.into())) };
    let model = Some(model.into());
    let request = ChatRequest { model, messages: vec![message], stream: Some(true), stream_options: None };
    // Plain data always serializes.
    serde_json::to_string(&request).unwrap_or_default()
}

/// A client on loopback, with the API key if there is one.
pub(super) struct Client {
    http: awc::Client,
    key: Option<Secret>,
}

impl Client {
    /// `head_limit`: how long the head of a response may take. A model may have to read a long prompt first.
    pub(super) fn new(key: Option<Secret>, head_limit: Duration) -> Self {
        let http = awc::Client::builder().timeout(head_limit).disable_redirects().finish();
        Self { http, key }
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    fn authorized(&self, request: ClientRequest) -> ClientRequest {
        match &self.key {
            Some(key) => request.insert_header((AUTHORIZATION, format!("Bearer {}", key.reveal()))),
            None => request,
        }
    }

    /// The models on offer.
    pub(super) async fn models(&self, addr: SocketAddr) -> Result<Vec<String>, PromptError> {
        let request = self.authorized(self.http.get(format!("http://{addr}/v1/models")));
        let mut response = request.send().await.map_err(|_| PromptError::Broken)?;
        let body = response.body().await.map_err(|_| PromptError::Broken)?;
        let models: ModelList<'_> = object(&body).ok_or(PromptError::Broken)?;
        Ok(models.data.into_iter().map(|model| model.id.into_owned()).collect())
    }

    /// Sends one chat and writes the answer as it comes.
    pub(super) async fn chat(
        &self,
        addr: SocketAddr,
        model: &str,
        prompt: &str,
        out: &mut dyn Write,
    ) -> Result<(), PromptError> {
        let request = self.http.post(format!("http://{addr}/v1/chat/completions")).content_type("application/json");
        let sent = self.authorized(request).send_body(body(model, prompt)).await;
        let mut response = sent.map_err(|_| PromptError::Broken)?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = response.body().await.unwrap_or_default();
            let message = ErrorBody::read(&body).message().unwrap_or_default();
            return Err(PromptError::Refused { status, message });
        }
        let mut splitter = SseSplitter::new(EVENT_LIMIT);
        let mut answer = Answer::default();
        while let Some(bytes) = response.next().await {
            let bytes = bytes.map_err(|_| PromptError::Broken)?;
            splitter.feed(&bytes, |event| answer.take(event.data));
            out.write_all(answer.text.as_bytes())?;
            out.flush()?;
            answer.text.clear();
        }
        writeln!(out)?;
        match answer {
            Answer { error: Some(error), .. } => Err(PromptError::BrokenOff(error)),
            Answer { done: false, .. } => Err(PromptError::BrokenOff("no end mark".to_owned())),
            Answer { .. } => Ok(()),
        }
    }
}

/// What the events add up to.
#[derive(Default)]
struct Answer {
    /// Not written yet.
    text: String,
    error: Option<String>,
    done: bool,
}

impl Answer {
    fn take(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.done = true;
        }
        let report = object::<CompletionReport<'_>>(data);
        if report.is_some_and(|report| report.error.is_some()) {
            self.error = Some(ErrorBody::read(data).message().unwrap_or_default());
        }
        let Some(chunk) = object::<Completion<'_, IgnoredAny, ChatChoice<&RawValue>>>(data) else { return };
        let choices = chunk.choices.and_then(Few::into_vec).unwrap_or_default();
        let contents = choices.into_iter().filter_map(|choice| choice.delta?.0.content);
        for content in contents.filter_map(|content| serde_json::from_str::<String>(content.get()).ok()) {
            // What a model writes drives no terminal.
            self.text.extend(content.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')));
        }
    }
}
