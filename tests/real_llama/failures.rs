//! What goes wrong at the server, and what clients see of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::answer::{Answer, CHAT, endless_chat, greedy_chat};
use crate::fleet::{DISCOVERY_INTERVAL, Fleet};
use crate::llama::Llama;

/// What one look at a server may take.
const LOOK: Duration = Duration::from_secs(2);

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_server_that_dies_is_withdrawn_and_offered_again_when_it_is_back() {
    let mut llama = Llama::start(&[]);
    let fleet = Fleet::beside(&llama).await;
    let mut stream = fleet.api.stream(CHAT, &endless_chat()).await;
    stream.until_tokens_flow().await;

    llama.kill();
    let killed = Instant::now();
    let events = stream.rest().await;
    let told = killed.elapsed();
    let last = events.last().and_then(|event| event.json()).unwrap();
    assert_eq!(last["error"]["type"], "server_error");
    assert_eq!(last["error"]["code"], "upstream_error");
    assert!(events.iter().all(|event| event.data != "[DONE]"));
    fleet.until_offered(0).await;
    let withdrawn = killed.elapsed();
    assert!(withdrawn < DISCOVERY_INTERVAL + LOOK, "{withdrawn:?}");
    let status = fleet.status().await;
    assert!(!status.backends["llamacpp"].up);
    assert_eq!(status.jobs.failed.get("internal"), Some(&1));

    llama.start_again(&[]).await;
    let back = fleet.until_offered(1).await;
    assert!(back < DISCOVERY_INTERVAL + LOOK, "{back:?}");
    let (told, withdrawn, back) = (told.as_millis(), withdrawn.as_millis(), back.as_millis());
    println!("killed: client told after {told} ms, model gone after {withdrawn} ms; back {back} ms after it answers");
    let request = greedy_chat("Name three colours.", 8);
    let direct = llama.api.post(CHAT, &request).await;
    let answer = fleet.api.post(CHAT, &request).await;
    assert_eq!(Answer::of_chat(&answer.body), Answer::of_chat(&direct.body));
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_model_that_nobody_has_is_not_found_though_the_server_takes_any_name() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let mut request = greedy_chat("Name three colours.", 8);
    request["model"] = "gpt-4o".into();
    assert_eq!(llama.api.post(CHAT, &request).await.status, 200);
    let answer = fleet.api.post(CHAT, &request).await;
    assert_eq!(answer.status, 404);
    let error = &answer.body["error"];
    assert_eq!((&error["type"], &error["code"]), (&"invalid_request_error".into(), &"model_not_found".into()));
    assert_eq!(error["param"], "model");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("gpt-4o")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_prompt_that_is_too_long_is_an_error_that_does_not_repeat_it() {
    const CANARY: &str = "Quetzalcoatlus";
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let request = greedy_chat(&format!("{CANARY} ").repeat(2000), 8);
    let direct = llama.api.post(CHAT, &request).await;
    assert_eq!(direct.status, 400);
    assert_eq!(direct.body["error"]["type"], "exceed_context_size_error");

    let mut streamed = request.clone();
    streamed["stream"] = true.into();
    for request in [request, streamed] {
        let answer = fleet.api.post(CHAT, &request).await;
        assert_eq!((answer.status, &answer.body), (400, &direct.body));
        assert!(!answer.body.to_string().contains(CANARY));
    }
    let status = fleet.until_status("two failures", |status| status.jobs.failed.get("internal") == Some(&2)).await;
    assert_eq!(status.in_flight, 0);
    assert!(status.backends["llamacpp"].up);
    for (log, event) in [(fleet.agent.log(), "job ended"), (fleet.coordinator.log(), "job ended")] {
        assert!(log.contains(event) && !log.contains(CANARY));
    }
}
