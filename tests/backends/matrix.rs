//! Each kind of server behind the whole agent: what is offered of it, each format streamed and as one body with its usage,
//! every error, and every format broken off.
//!
//! Which servers are recorded and which are written after documentation is said in `servers` and `dialects`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use outpost::internals::Assembly;
use outpost::messages::endpoint::AnswerForm::{Stream, Whole};
use outpost::messages::endpoint::{AnswerForm, Endpoint};
use outpost::messages::wire::{Capabilities, ErrorCode, Extensions, ModelOffer, ResponseHead};
use outpost::testkit::{BackendKind, Clock, CoordinatorLink, Harness, JobTrace, job_frame_at};
use serde_json::Value;

use super::dialects::{Answer, Wrong, answer, errors, said, tokens};
use super::looking::source;
use super::server::{Reply, Request, Server, json, within};
use super::servers::{self, ONE_OF_EACH, Script};

/// In every job's request, and in no probe of a look.
const MARK: &str = "a job of the matrix";

const JSON: &str = "content-type: application/json\r\n";

/// Each kind's models: context, jobs at once, prices, endpoints. Messages are offered wherever chats are: what a server
/// can't do itself is translated. Eight is the agent's own limit.
const OFFERS: &[&str] = &[
    "vllm: Qwen/Qwen3-8B 40960 x8 500000/750000 chat/completions completions responses messages",
    "vllm: lora ? x8 500000/750000 chat/completions completions responses messages",
    "llamacpp: smollm2-135m 2048 x2 500000/750000 chat/completions completions responses messages",
    "lmstudio: nomic 2048 x6 500000/750000 embeddings",
    "lmstudio: openai/gpt-oss-20b 16384 x6 500000/750000 chat/completions completions messages",
    "lmstudio: openai/gpt-oss-20b:2 131072 x6 500000/750000 chat/completions completions messages",
    "ollama: embedder-of-an-old-version ? x8 500000/750000 embeddings",
    "ollama: llama3.2:3b 4096 x8 500000/750000 chat/completions completions responses messages",
    "ollama: nomic-embed-text:latest ? x8 500000/750000 embeddings",
    "ollama: of-an-old-version:7b ? x8 500000/750000 chat/completions completions responses messages",
    "sglang: Qwen/Qwen3-8B 40960 x8 500000/750000 chat/completions completions responses messages",
    "tgi: Llama-3.1-8B 4096 x8 500000/750000 chat/completions completions messages",
    "localai: gpt-4 ? x8 500000/750000 chat/completions completions embeddings responses messages",
    "koboldcpp: koboldcpp/L3-8B 8192 x1 500000/750000 chat/completions completions messages",
    "tabbyapi: bge-m3 ? x6 500000/750000 embeddings",
    "tabbyapi: loaded 16384 x6 500000/750000 chat/completions completions messages",
    "mlx: mlx-community/q ? x8 500000/750000 chat/completions completions messages",
    "litellm: smollm2-135m ? x8 500000/750000 chat/completions completions embeddings responses messages",
    "venice: bge-m3 ? x8 500000/750000 embeddings",
    "venice: llama-3.3-70b 65536 x8 700000/2800000 chat/completions messages",
    "openrouter: org/model 131072 x8 500000/750000 chat/completions completions responses messages",
    "openai: gpt-3.5-turbo ? x8 500000/750000 chat/completions messages",
    "openai: multilingual-e5-small-q4 ? x8 500000/750000 embeddings",
];

/// What the server answers a job with, by what it is asked for.
type Answers = dyn Fn(Endpoint) -> Vec<u8>;

/// An agent beside one server that answers jobs with the reply that was put down last.
struct Bench {
    harness: Harness,
    link: CoordinatorLink,
    offer: Capabilities,
    reply: Rc<RefCell<Box<Answers>>>,
    /// What the server was asked for last.
    asked: Rc<Cell<Option<Endpoint>>>,
    _server: Server,
}

impl Bench {
    async fn start(kind: BackendKind, script: Script) -> Self {
        let reply: Rc<RefCell<Box<Answers>>> = Rc::new(RefCell::new(Box::new(|_| Vec::new())));
        let asked = Rc::new(Cell::new(None));
        let (next, note) = (Rc::clone(&reply), Rc::clone(&asked));
        let server = Server::start(move |request: &Request| {
            let endpoint = request.line.strip_prefix("POST ").and_then(Endpoint::of_path);
            match endpoint.filter(|_| memchr::memmem::find(&request.body, MARK.as_bytes()).is_some()) {
                Some(endpoint) => {
                    note.set(Some(endpoint));
                    Reply::Bytes(next.borrow()(endpoint))
                }
                None => script(request),
            }
        })
        .await;
        let source = source(&server, kind, Some("key"));
        let mut harness = Harness::builder().clock(Clock::Unchanged).source(source).start();
        harness.coordinator.offer(Extensions::without_resume());
        let mut link = within(harness.coordinator.welcome()).await;
        let mut offer = within(link.capabilities()).await;
        // A look may take longer than the first offer waits.
        while offer.models.is_empty() {
            offer = within(link.capabilities()).await;
        }
        Self { harness, link, offer, reply, asked, _server: server }
    }

    /// Has one job worked, which the server answers so, by what it is asked for.
    async fn job(
        &mut self,
        model: &ModelOffer,
        endpoint: Endpoint,
        form: AnswerForm,
        reply: impl Fn(Endpoint) -> Vec<u8> + 'static,
    ) -> JobTrace {
        *self.reply.borrow_mut() = Box::new(reply);
        let request = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages => {
                format!(r#"{{"max_tokens":9,"messages":[{{"role":"user","content":"{MARK}"}}]}}"#)
            }
            Endpoint::Completions => format!(r#"{{"max_tokens":9,"prompt":"{MARK}"}}"#),
            Endpoint::Responses => format!(r#"{{"max_output_tokens":9,"input":"{MARK}"}}"#),
            Endpoint::Embeddings => format!(r#"{{"input":"{MARK}"}}"#),
        };
        let job = self.link.send_job(&job_frame_at(endpoint, form, model.model_id.as_str(), request));
        within(self.link.outcome_of(job)).await
    }
}

/// Every kind, and a server of embeddings alone. What is busy is not offered, so that KoboldCpp has nothing to do.
fn every_kind() -> impl Iterator<Item = (BackendKind, Script)> {
    let idle: Script = |request| match request.line.as_str() {
        "GET /api/extra/perf" => json(r#"{"queue":0,"idle":1}"#),
        _ => servers::koboldcpp(request),
    };
    let one_of_each = ONE_OF_EACH.into_iter();
    let idle = one_of_each.map(move |(kind, of_it)| (kind, if kind == BackendKind::KoboldCpp { idle } else { of_it }));
    idle.chain([(BackendKind::OpenAi, servers::nano_e5 as Script)])
}

fn line(kind: BackendKind, model: &ModelOffer) -> String {
    let ModelOffer { model_id, max_concurrent, context_window, endpoints, input_per_1m, output_per_1m, .. } = model;
    let paths: Vec<_> = endpoints.unwrap().iter().map(|endpoint| endpoint.path().trim_start_matches("/v1/")).collect();
    let context = context_window.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
    let price = format!("{input_per_1m}/{output_per_1m}");
    format!("{kind}: {model_id} {context} x{max_concurrent} {price} {}", paths.join(" "))
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_offer_of_every_kind() {
    let mut offers = Vec::new();
    for (kind, script) in every_kind() {
        let bench = Bench::start(kind, script).await;
        offers.extend(bench.offer.models.iter().map(|model| line(kind, model)));
        bench.harness.stop().await;
    }
    assert_eq!(offers, OFFERS);
}

/// What an answer of one JSON body says.
fn words(endpoint: Endpoint, body: &Value) -> String {
    let text = match endpoint {
        Endpoint::ChatCompletions => &body["choices"][0]["message"]["content"],
        Endpoint::Completions => &body["choices"][0]["text"],
        Endpoint::Embeddings => panic!("no words"),
        Endpoint::Responses => &body["output"][0]["content"][0]["text"],
        Endpoint::Messages => &body["content"][0]["text"],
    };
    text.as_str().unwrap_or_default().to_owned()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_format_of_every_kind() {
    for (kind, script) in every_kind() {
        let mut bench = Bench::start(kind, script).await;
        for model in bench.offer.models.clone() {
            for endpoint in model.endpoints.unwrap().iter() {
                let what = format!("{kind} {} {endpoint}", model.model_id);
                let reply = move |asked| answer(kind, asked).framed;
                let stream = bench.job(&model, endpoint, Stream, reply).await;
                let whole = bench.job(&model, endpoint, Whole, reply).await;
                let asked = bench.asked.get().unwrap();
                let sent = answer(kind, asked);
                for trace in [&stream, &whole] {
                    assert_eq!(trace.done().tokens, tokens(kind, asked), "{what}");
                }
                assert_eq!(whole.head, Some(ResponseHead::new(200, "application/json")), "{what}");
                let body: Value = serde_json::from_slice(&whole.bytes).unwrap();
                if endpoint == Endpoint::Embeddings {
                    assert_eq!((&stream.bytes, &whole.bytes), (&sent.body, &sent.body), "{what}");
                    continue;
                }
                assert_eq!(words(endpoint, &body), said(kind, asked), "{what}");
                assert_eq!(stream.head, Some(ResponseHead::new(200, "text/event-stream")), "{what}");
                if asked == endpoint && sent.streams {
                    assert_eq!(stream.bytes, sent.body, "{what}");
                }
                let mut assembly = Assembly::new(endpoint, 1 << 20);
                assembly.feed(&stream.bytes).unwrap();
                let Ok(folded) = assembly.finish() else { panic!("{what}: no good stream") };
                let folded: Value = serde_json::from_slice(&folded.body).unwrap();
                assert_eq!(words(endpoint, &folded), said(kind, asked), "{what}");
            }
        }
        bench.harness.stop().await;
    }
}

/// What is the server's own fault keeps jobs from it: one agent for each.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_error_of_every_kind() {
    for (kind, script) in every_kind() {
        for wrong in errors(kind) {
            for endpoint in first_offer(kind, script).await {
                let mut bench = Bench::start(kind, script).await;
                let model = bench.offer.models[0].clone();
                let what = format!("{kind} {endpoint} {} {}", wrong.status, wrong.body);
                let (head, length) = (format!("HTTP/1.1 {}\r\n{JSON}", wrong.status), wrong.body.len());
                let reply = format!("{head}content-length: {length}\r\n\r\n{}", wrong.body);
                let trace = bench.job(&model, endpoint, Stream, move |_| reply.clone().into_bytes()).await;
                assert_eq!(trace.code(), wrong.code, "{what}");
                assert!(!trace.error().message.contains(&wrong.body), "{what}");
                if wrong.code == ErrorCode::AuthRejectedByBackend || wrong.status.starts_with('5') {
                    assert_eq!((trace.head, trace.bytes.len()), (None, 0), "{what}");
                } else {
                    let status = wrong.status[..3].parse().unwrap();
                    assert_eq!(trace.head, Some(ResponseHead::new(status, "application/json")), "{what}");
                    assert_said(&trace.bytes, &wrong, endpoint, bench.asked.get().unwrap());
                }
                bench.harness.stop().await;
            }
        }
    }
}

/// The server's own words, or, of one that has no messages, an error as Anthropic says it.
fn assert_said(bytes: &[u8], wrong: &Wrong, endpoint: Endpoint, asked: Endpoint) {
    if asked == endpoint {
        return assert_eq!(bytes, wrong.body.as_bytes());
    }
    let error: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!((&error["type"], error["error"]["type"].is_string()), (&"error".into(), true), "{}", wrong.body);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_format_of_every_kind_broken_off() {
    // In the middle of the body. Where that has no length, it seems to have been closed in order.
    let half = |kind| {
        move |asked| {
            let Answer { mut framed, body, .. } = answer(kind, asked);
            framed.truncate(framed.len() - body.len() / 2);
            framed
        }
    };
    for (kind, script) in every_kind() {
        for endpoint in first_offer(kind, script).await {
            let mut bench = Bench::start(kind, script).await;
            let model = bench.offer.models[0].clone();
            for form in [Stream, Whole] {
                let what = format!("{kind} {endpoint} {form:?}");
                let trace = bench.job(&model, endpoint, form, half(kind)).await;
                assert_eq!(trace.code(), ErrorCode::Internal, "{what}");
                assert_eq!(trace.error().tokens_emitted, trace.bytes.len() as u64, "{what}");
                assert!(form == Stream || trace.bytes.is_empty(), "{what}");
            }
            bench.harness.stop().await;
        }
    }
}

/// The endpoints of the model that is offered first.
async fn first_offer(kind: BackendKind, script: Script) -> Vec<Endpoint> {
    let bench = Bench::start(kind, script).await;
    let endpoints = bench.offer.models[0].endpoints.unwrap().iter().collect();
    bench.harness.stop().await;
    endpoints
}
