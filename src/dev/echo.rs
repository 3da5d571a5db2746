//! The built-in echo: a real HTTP server with an OpenAI-style API whose one model repeats its input.
//!
//! It is used if there is no inference server, and every response states that. It counts words as tokens. It
//! is not a model, keeps nothing and listens on loopback only.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The one model.
pub const MODEL: &str = "outpost-echo";

/// What every answer starts with.
const PREFACE: &str = "This is outpost's built-in echo, not a model. You said: ";
/// The largest request body, in bytes.
const MAX_BODY: usize = 64 << 20;

/// A running echo server. Dropping this does not stop it: [`Echo::stop`] does.
pub struct Echo {
    addr: SocketAddr,
    server: ServerHandle,
}

/// Starts an echo server on a free port of loopback. Must be called on an actix system.
#[expect(clippy::disallowed_methods, reason = "the server is stopped through the handle that Echo holds")]
pub fn start() -> io::Result<Echo> {
    let http = HttpServer::new(|| {
        App::new()
            .app_data(PayloadConfig::new(MAX_BODY))
            .route("/v1/models", web::get().to(models))
            .route("/v1/chat/completions", web::post().to(complete))
    })
    .workers(1)
    .disable_signals()
    .tcp_nodelay(true)
    .h1_allow_half_closed(false)
    .shutdown_timeout(1)
    .bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = http.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let server = http.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(Echo { addr, server: handle })
}

impl Echo {
    /// Where it listens, as a backend is configured: `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops it and returns when its port is closed.
    pub async fn stop(self) {
        self.server.stop(true).await;
    }
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: [Model; 1],
}

#[derive(Serialize)]
struct Model {
    id: &'static str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

async fn models() -> HttpResponse {
    let model = Model { id: MODEL, object: "model", created: 0, owned_by: "outpost" };
    HttpResponse::Ok().json(List { object: "list", data: [model] })
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message; one that is not text has none.
#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

#[derive(Clone, Copy, Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

/// A whole answer, or one chunk of it.
#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'static str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(flatten)]
    said: Said<'a>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Said<'a> {
    Message(Text<'a>),
    Delta(Text<'a>),
}

#[derive(Default, Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
struct Refusal {
    error: RefusalDetail,
}

#[derive(Serialize)]
struct RefusalDetail {
    message: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

async fn complete(body: Bytes) -> HttpResponse {
    let Ok(request) = serde_json::from_slice::<Request>(&body) else {
        return refuse("the body must be a JSON object with a list of messages");
    };
    let Some(last) = request.messages.iter().rev().find(|message| message.role == "user") else {
        return refuse("there must be a message of the user");
    };
    let said = format!("{PREFACE}{}", last.text());
    let prompt_tokens = request.messages.iter().map(|message| message.text().split_whitespace().count()).sum();
    let completion_tokens = said.split_whitespace().count();
    let usage = Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
    let answer = Answer {
        id: format!("chatcmpl-{}", Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
    };
    if !request.stream.unwrap_or(false) {
        let text = Text { role: Some("assistant"), content: Some(&said) };
        let choice = Choice { index: 0, said: Said::Message(text), finish_reason: Some("stop") };
        return HttpResponse::Ok().json(answer.completion("chat.completion", &[choice], Some(usage)));
    }
    let usage = request.stream_options.unwrap_or_default().include_usage.unwrap_or(false).then_some(usage);
    let events = Events { answer, said, usage, step: Step::Role };
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(stream::iter(events.map(Ok::<_, Infallible>)))
}

fn refuse(message: &'static str) -> HttpResponse {
    let error = RefusalDetail { message, kind: "invalid_request_error", param: None, code: None };
    HttpResponse::BadRequest().json(Refusal { error })
}

/// What all chunks of one answer share.
struct Answer {
    id: String,
    created: u64,
}

impl Answer {
    fn completion<'a>(
        &'a self,
        object: &'static str,
        choices: &'a [Choice<'a>],
        usage: Option<Usage>,
    ) -> Completion<'a> {
        Completion { id: &self.id, object, created: self.created, model: MODEL, choices, usage }
    }

    fn delta(&self, text: Text<'_>, finish_reason: Option<&'static str>) -> Bytes {
        let choice = Choice { index: 0, said: Said::Delta(text), finish_reason };
        event(&self.completion("chat.completion.chunk", &[choice], None))
    }
}

/// A streamed answer, made event by event: the whole of it is many times larger than its content.
struct Events {
    answer: Answer,
    said: String,
    /// The usage, if it is wanted.
    usage: Option<Usage>,
    step: Step,
}

/// What comes next.
enum Step {
    Role,
    /// The word that starts at this byte, with the white space after it.
    Word(usize),
    Usage,
    Mark,
    Nothing,
}

impl Iterator for Events {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (event, step) = match self.step {
            Step::Role => (self.answer.delta(Text { role: Some("assistant"), content: Some("") }, None), Step::Word(0)),
            Step::Word(at) => {
                let rest = self.said.get(at..).unwrap_or_default();
                match rest.split_inclusive(char::is_whitespace).next() {
                    Some(word) => {
                        let text = Text { role: None, content: Some(word) };
                        (self.answer.delta(text, None), Step::Word(at + word.len()))
                    }
                    None => (self.answer.delta(Text::default(), Some("stop")), Step::Usage),
                }
            }
            Step::Usage if self.usage.is_some() => {
                (event(&self.answer.completion("chat.completion.chunk", &[], self.usage)), Step::Mark)
            }
            Step::Usage | Step::Mark => (Bytes::from_static(b"data: [DONE]\n\n"), Step::Nothing),
            Step::Nothing => return None,
        };
        self.step = step;
        Some(event)
    }
}

fn event(completion: &Completion<'_>) -> Bytes {
    format!("data: {}\n\n", serde_json::to_string(completion).unwrap_or_default()).into()
}
