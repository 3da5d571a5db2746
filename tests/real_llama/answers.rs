//! An answer that comes through coordinator and agent is the one that the server gives to whoever asks it directly.

use serde_json::Value;

use crate::answer::{Answer, CHAT, MESSAGES, greedy_chat, streamed, streamed_with_usage};
use crate::fleet::Fleet;
use crate::llama::Llama;

/// One that ends where the model ends it, and one that ends by its limit.
fn chats() -> [Value; 2] {
    [greedy_chat("Say hello.", 64), greedy_chat("Name three colours.", 16)]
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn chats_are_the_same_streamed_and_whole_and_their_tokens_are_counted() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let mut endings = Vec::new();
    let mut counted = (0, 0);
    for request in chats() {
        let streamed = streamed_with_usage(request.clone());
        let direct = Answer::of_chat_events(&llama.api.stream(CHAT, &streamed).await.rest().await);
        let answer = Answer::of_chat_events(&fleet.api.stream(CHAT, &streamed).await.rest().await);
        assert!(!direct.text.is_empty());
        assert_eq!(answer, direct);

        let direct_whole = llama.api.post(CHAT, &request).await;
        let whole = fleet.api.post(CHAT, &request).await;
        assert_eq!((whole.status, whole.body["object"].as_str()), (200, Some("chat.completion")));
        assert_eq!(Answer::of_chat(&whole.body), Answer::of_chat(&direct_whole.body));
        assert_eq!(Answer::of_chat(&whole.body), direct);

        let (input, output) = direct.tokens.unwrap();
        counted = (counted.0 + 2 * input, counted.1 + 2 * output);
        endings.push(direct.ending);
    }
    assert_eq!(endings, ["stop", "length"]);
    let status = fleet.until_status("the jobs' ends", |status| status.jobs.done == 4).await;
    assert_eq!((status.tokens.input, status.tokens.output), counted);
    assert_eq!(status.in_flight, 0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_stream_has_no_usage_that_was_not_asked_for() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let request = streamed(greedy_chat("Name three colours.", 8));
    let direct = llama.api.stream(CHAT, &request).await.rest().await;
    let events = fleet.api.stream(CHAT, &request).await.rest().await;
    assert_eq!(events.len(), direct.len());
    assert_eq!(Answer::of_chat_events(&events), Answer::of_chat_events(&direct));
    assert_eq!(Answer::of_chat_events(&events).tokens, None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn messages_are_the_same_streamed_and_whole() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let mut endings = Vec::new();
    for request in chats() {
        // This API always uses the cache: once the prompt is in it, every answer is computed and counted the same way.
        llama.api.post(MESSAGES, &request).await;
        let streamed = streamed(request.clone());
        let direct = Answer::of_message_events(&llama.api.stream(MESSAGES, &streamed).await.rest().await);
        let answer = Answer::of_message_events(&fleet.api.stream(MESSAGES, &streamed).await.rest().await);
        assert!(!direct.text.is_empty());
        assert_eq!(answer, direct);

        let direct_whole = llama.api.post(MESSAGES, &request).await;
        let whole = fleet.api.post(MESSAGES, &request).await;
        assert_eq!((whole.status, whole.body["type"].as_str()), (200, Some("message")));
        assert_eq!(Answer::of_message(&whole.body), Answer::of_message(&direct_whole.body));
        assert_eq!(Answer::of_message(&whole.body), direct);
        endings.push(direct.ending);
    }
    assert_eq!(endings, ["end_turn", "max_tokens"]);
}
