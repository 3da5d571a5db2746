//! The built-in echo as a client of an inference server sees it.

#![allow(clippy::disallowed_methods, reason = "a test is its own owner: what it spawns ends with its runtime")]

use outpost::internals::echo::{self, MODEL};

fn client() -> awc::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    awc::Client::default()
}

async fn complete(echo: &echo::Echo, body: &'static str) -> (u16, String) {
    let url = format!("{}/v1/chat/completions", echo.base_url());
    let mut response = client().post(url).send_body(body).await.unwrap();
    let body = response.body().await.unwrap();
    (response.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

fn events(body: &str) -> Vec<serde_json::Value> {
    let events = body.strip_suffix("data: [DONE]\n\n").expect("the end mark");
    events.split_terminator("\n\n").map(|event| serde_json::from_str(&event["data: ".len()..]).unwrap()).collect()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_offers_one_model() {
    let echo = echo::start().unwrap();
    let mut response = client().get(format!("{}/v1/models", echo.base_url())).send().await.unwrap();
    let list: serde_json::Value = response.json().await.unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!((&list["data"][0]["id"], &list["data"][0]["owned_by"]), (&MODEL.into(), &"outpost".into()));
    echo.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_names_itself_and_repeats_the_last_message_of_the_user() {
    let echo = echo::start().unwrap();
    let (status, body) = complete(
        &echo,
        r#"{"stream":true,"stream_options":{"include_usage":true},"messages":[
            {"role":"user","content":"first"},{"role":"assistant","content":"no"},
            {"role":"user","content":[{"type":"text","text":"two  words\n"},{"type":"image_url","image_url":{}}]}]}"#,
    )
    .await;
    assert_eq!(status, 200);
    let events = events(&body);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "This is outpost's built-in echo, not a model. You said: two  words\n");
    let [.., stop, usage] = &events[..] else { panic!("too few events") };
    assert_eq!(stop["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], serde_json::json!([]));
    assert_eq!(usage["usage"], serde_json::json!({"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}));
    assert!(events.len() > 12);
    echo.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_reports_usage_only_when_requested() {
    let echo = echo::start().unwrap();
    let (_, body) = complete(&echo, r#"{"stream":true,"messages":[{"role":"user","content":"hi"}]}"#).await;
    assert!(events(&body).iter().all(|event| event.get("usage").is_none()));
    echo.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_also_answers_with_one_json_body() {
    let echo = echo::start().unwrap();
    let (status, body) = complete(&echo, r#"{"messages":[{"role":"user","content":"hi"}]}"#).await;
    assert_eq!(status, 200);
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["role"], "assistant");
    assert!(message["content"].as_str().unwrap().ends_with("You said: hi"));
    assert_eq!(answer["usage"]["completion_tokens"], 11);
    echo.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_refuses_what_it_can_not_read() {
    let echo = echo::start().unwrap();
    for body in ["", "{", r#"{"messages":7}"#, r#"{"messages":[]}"#, r#"{"messages":[{"role":"system"}]}"#] {
        let (status, body) = complete(&echo, body).await;
        assert_eq!(status, 400);
        let refusal: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(refusal["error"]["type"], "invalid_request_error");
    }
    echo.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_is_gone_after_its_stop() {
    let echo = echo::start().unwrap();
    let address = echo.base_url().strip_prefix("http://").unwrap().to_owned();
    echo.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
