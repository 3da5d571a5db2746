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
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::core::formats::event_writer::{DONE, write_event};
use crate::core::formats::openai::{
    ChatChoice, ChatMessage, ChatRequest, Completion, ErrorBody, Model, ModelList, Usage,
};
use crate::core::json::{Few, Object, object, raw, text};

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

async fn models() -> HttpResponse {
    HttpResponse::Ok().json(ModelList::of([Model::new(MODEL, 0, None)]))
}

async fn complete(body: Bytes) -> HttpResponse {
    let Some(request) = object::<ChatRequest<'_>>(&body) else {
        return refuse("the body must be a JSON object with a list of messages");
    };
    let Some(last) = request.messages.iter().rev().find(|message| message.role == "user") else {
        return refuse("there must be a message of the user");
    };
    let said = format!("{PREFACE}{}", last.text());
    let words = |text: &str| u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX);
    let (prompt, answered) = (request.messages.iter().map(|message| words(&message.text())).sum(), words(&said));
    let usage = Usage {
        prompt_tokens: Some(prompt),
        completion_tokens: Some(answered),
        total_tokens: Some(prompt + answered),
        prompt_tokens_details: None,
    };
    let answer = Answer {
        id: text(&format!("chatcmpl-{}", Uuid::new_v4().simple())),
        created: SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| raw(&now.as_secs())),
        model: text(MODEL),
    };
    if !request.stream.unwrap_or(false) {
        let message = Some(message(Some("assistant"), Some(&said)));
        let choice = ChatChoice { message, ..choice(Some("stop")) };
        return HttpResponse::Ok().json(answer.completion("chat.completion", vec![choice], Some(&usage)));
    }
    let usage = request.stream_options.unwrap_or_default().include_usage.unwrap_or(false).then_some(usage);
    let events = Events { answer, said, usage, step: Step::Role };
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(stream::iter(events.map(Ok::<_, Infallible>)))
}

fn refuse(message: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(ErrorBody::new("invalid_request_error", message, None, None))
}

/// The JSON of a member that is made here.
type Json = Box<RawValue>;

/// What all chunks of one answer share.
struct Answer {
    id: Json,
    created: Option<Json>,
    model: Json,
}

impl Answer {
    fn completion(
        &self,
        object: &'static str,
        choices: Vec<ChatChoice<Json>>,
        usage: Option<&Usage<u64>>,
    ) -> Completion<'static, Json, ChatChoice<Json>> {
        Completion {
            id: Some(self.id.clone()),
            object,
            created: self.created.clone(),
            model: Some(self.model.clone()),
            system_fingerprint: None,
            choices: Some(Few::of(choices)),
            usage: usage.and_then(raw),
            timings: None,
        }
    }

    fn chunk(&self, choices: Vec<ChatChoice<Json>>, usage: Option<&Usage<u64>>) -> Bytes {
        let mut event = Vec::new();
        write_event(&mut event, "", &self.completion("chat.completion.chunk", choices, usage));
        event.into()
    }

    fn delta(&self, role: Option<&str>, content: Option<&str>, finish_reason: Option<&str>) -> Bytes {
        self.chunk(vec![ChatChoice { delta: Some(message(role, content)), ..choice(finish_reason) }], None)
    }
}

/// The one choice, without what it says.
fn choice(finish_reason: Option<&str>) -> ChatChoice<Json> {
    ChatChoice {
        index: Some(0),
        message: None,
        delta: None,
        logprobs: None,
        finish_reason: finish_reason.map(text),
        stop_reason: None,
        matched_stop: None,
    }
}

fn message(role: Option<&str>, content: Option<&str>) -> Object<ChatMessage<Json>> {
    Object(ChatMessage {
        role: role.map(text),
        content: content.map(text),
        reasoning_content: None,
        reasoning: None,
        refusal: None,
        tool_calls: None,
    })
}

/// A streamed answer, made event by event: the whole of it is many times larger than its content.
struct Events {
    answer: Answer,
    said: String,
    /// The usage, if it is wanted.
    usage: Option<Usage<u64>>,
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
            Step::Role => (self.answer.delta(Some("assistant"), Some(""), None), Step::Word(0)),
            Step::Word(at) => {
                let rest = self.said.get(at..).unwrap_or_default();
                match rest.split_inclusive(char::is_whitespace).next() {
                    Some(word) => (self.answer.delta(None, Some(word), None), Step::Word(at + word.len())),
                    None => (self.answer.delta(None, None, Some("stop")), Step::Usage),
                }
            }
            Step::Usage if self.usage.is_some() => (self.answer.chunk(Vec::new(), self.usage.as_ref()), Step::Mark),
            Step::Usage | Step::Mark => (Bytes::from_static(DONE), Step::Nothing),
            Step::Nothing => return None,
        };
        self.step = step;
        Some(event)
    }
}
