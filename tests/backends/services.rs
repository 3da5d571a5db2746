//! What a probe of a paid service reports, and that it costs nothing. Both are written after their documentation.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use outpost::messages::endpoint::Endpoint::{ChatCompletions, Completions, Embeddings, Messages, Responses};
use outpost::testkit::{BackendKind, ProbeError};

use super::looking::{endpoints, look, models, source};
use super::server::{Request, Server, json, status, within};
use super::servers::{self, documented};

/// Models with their prices, in micro-USD per million tokens.
async fn prices(kind: BackendKind, line: &'static str, list: &'static str) -> Vec<(String, u64, u64)> {
    let script = move |request: &Request| documented(request, &[], &[(line, list)]);
    let seen = look(kind, script).await.unwrap();
    let priced = |model: &outpost::testkit::ModelReport| {
        let price = model.price.expect("a service's model has its price");
        (model.id.to_string(), price.input_per_1m, price.output_per_1m)
    };
    seen.report.models.iter().map(priced).collect()
}

fn priced(model: &str, input: u64, output: u64) -> (String, u64, u64) {
    (model.to_owned(), input, output)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn openrouter_reports_context_endpoints_and_exact_prices() {
    let seen = look(BackendKind::OpenRouter, servers::openrouter).await.unwrap();
    assert_eq!(models(&seen), [("org/model", Some(131_072))]);
    assert_eq!(endpoints(&seen), [[ChatCompletions, Completions, Responses, Messages]]);
    let list = r#"{"data":[
        {"id":"exact","pricing":{"prompt":"0.00000015","completion":"0.0000006"}},
        {"id":"rounded-up","pricing":{"prompt":"0.0000000000001","completion":"0.0000000000011"}},
        {"id":"free-prompts","pricing":{"prompt":"0","completion":"0.000001","request":"0"}},
        {"id":"dear-thoughts","pricing":{"prompt":"0.000001","completion":"0.000002","internal_reasoning":"0.000003"}},
        {"id":"a-number","pricing":{"prompt":1.5e-7,"completion":6e-7}}]}"#;
    let expected = [
        priced("exact", 150_000, 600_000),
        priced("rounded-up", 1, 2),
        priced("free-prompts", 0, 1_000_000),
        priced("dear-thoughts", 1_000_000, 3_000_000),
        priced("a-number", 150_000, 600_000),
    ];
    assert_eq!(prices(BackendKind::OpenRouter, "GET /v1/models", list).await, expected);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_model_of_openrouter_without_a_price_by_tokens_is_not_offered() {
    let list = r#"{"data":[
        {"id":"good","pricing":{"prompt":"0.000001","completion":"0.000002"}},
        {"id":"free","pricing":{"prompt":"0","completion":"0"}},
        {"id":"stands-for-others","pricing":{"prompt":"-1","completion":"-1"}},
        {"id":"half","pricing":{"prompt":"0.000001"}},
        {"id":"none"},
        {"id":"null","pricing":null},
        {"id":"words","pricing":{"prompt":"cheap","completion":"0.1"}},
        {"id":"by-request","pricing":{"prompt":"0.000001","completion":"0.000002","request":"0.01"}},
        {"id":"by-who-knows","pricing":{"prompt":"0.000001","completion":"0.000002","request":"?"}},
        {"id":"draws","architecture":{"output_modalities":["image"]},
            "pricing":{"prompt":"0.000001","completion":"0.000002"}}]}"#;
    assert_eq!(prices(BackendKind::OpenRouter, "GET /v1/models", list).await, [priced("good", 1_000_000, 2_000_000)]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn venice_reports_context_endpoints_and_exact_prices() {
    let seen = look(BackendKind::Venice, servers::venice).await.unwrap();
    assert_eq!(models(&seen), [("llama-3.3-70b", Some(65536)), ("bge-m3", None)]);
    assert_eq!(endpoints(&seen), [[ChatCompletions], [Embeddings]]);
    let list = r#"{"data":[
        {"id":"exact","type":"text","model_spec":{"pricing":{"input":{"usd":0.1},"output":{"usd":2.8}}}},
        {"id":"dear-when-long","type":"text","model_spec":{"pricing":{"input":{"usd":1},"output":{"usd":8},
            "extended":{"context_token_threshold":200000,"input":{"usd":2},"output":{"usd":6}}}}},
        {"id":"long-for-who-knows","type":"text","model_spec":{"pricing":{"input":{"usd":1},"output":{"usd":8},
            "extended":{"input":{"usd":-1},"output":{"usd":6}}}}},
        {"id":"free","type":"text","model_spec":{"pricing":{"input":{"usd":0},"output":{"usd":0.0}}}},
        {"id":"in-another-coin","type":"text","model_spec":{"pricing":{"input":{"diem":1},"output":{"diem":1}}}},
        {"id":"offline","type":"text","model_spec":{"offline":true,
            "pricing":{"input":{"usd":1},"output":{"usd":1}}}},
        {"id":"none","type":"text","model_spec":{}}]}"#;
    let expected = [priced("exact", 100_000, 2_800_000), priced("dear-when-long", 2_000_000, 8_000_000)];
    assert_eq!(prices(BackendKind::Venice, "GET /v1/models?type=all", list).await, expected);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_service_is_asked_for_its_list_and_nothing_else() {
    for (kind, script, line) in [
        (BackendKind::OpenRouter, servers::openrouter as servers::Script, "GET /v1/models"),
        (BackendKind::Venice, servers::venice, "GET /v1/models?type=all"),
    ] {
        let server = Server::start(script).await;
        let source = source(&server, kind, Some("k"));
        within(source.probe()).await.unwrap();
        assert_eq!(within(source.load()).await, None);
        let requests = server.requests();
        assert_eq!(requests.iter().map(|request| request.line.as_str()).collect::<Vec<_>>(), [line]);
        assert_eq!(requests[0].header("authorization"), Some("Bearer k"));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_services_list_is_asked_for_again_when_it_is_five_minutes_old_or_the_service_was_away() {
    const CHEAP: &str = r#"{"data":[{"id":"m","pricing":{"prompt":"0.000001","completion":"0.000001"}}]}"#;
    const DEAR: &str = r#"{"data":[{"id":"m","pricing":{"prompt":"0.000002","completion":"0.000002"}}]}"#;
    let (list, up) = (Rc::new(Cell::new(CHEAP)), Rc::new(Cell::new(true)));
    let server = Server::start({
        let (list, up) = (Rc::clone(&list), Rc::clone(&up));
        move |request: &Request| match request.line.as_str() {
            _ if !up.get() => status("503 Unavailable"),
            "GET /v1/models" => json(list.get()),
            // Not every server knows HEAD.
            _ => status("405 Method Not Allowed"),
        }
    })
    .await;
    let source = source(&server, BackendKind::OpenRouter, Some("k"));
    let price = async || within(source.probe()).await.map(|seen| seen.report.models[0].price.unwrap().input_per_1m);
    let asked = || (server.asked("GET /v1/models"), server.asked("HEAD /v1/models"));

    assert_eq!((price().await, price().await), (Ok(1_000_000), Ok(1_000_000)));
    assert_eq!(asked(), (1, 1));
    list.set(DEAR);
    pass(Duration::from_secs(5 * 60)).await;
    assert_eq!((price().await, asked()), (Ok(2_000_000), (2, 1)));

    up.set(false);
    assert_eq!((price().await, asked()), (Err(ProbeError::NotReady), (2, 2)));
    up.set(true);
    list.set(CHEAP);
    assert_eq!((price().await, asked()), (Ok(1_000_000), (3, 2)));
}

/// Lets time pass while no request is under way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
