//! As many jobs at once as the server has slots; further requests wait at the coordinator.

use futures_util::future::join;
use serde_json::Value;

use crate::answer::{CHAT, MODEL, endless_chat, greedy_chat};
use crate::fleet::Fleet;
use crate::llama::Llama;
use crate::waiting::eventually;

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn two_slots_take_two_requests_at_once_and_a_third_waits_for_one_of_them() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let request = endless_chat();
    let (mut first, mut second) = join(fleet.api.stream(CHAT, &request), fleet.api.stream(CHAT, &request)).await;
    join(first.until_tokens_flow(), second.until_tokens_flow()).await;
    llama.until_busy(2).await;
    assert_eq!(fleet.status().await.in_flight, 2);

    let request = greedy_chat("Name three colours.", 8);
    let third = fleet.api.post(CHAT, &request);
    // The others go on meanwhile, and one that leaves makes room.
    let make_room = async {
        let waiting = async || (fleet.api.get::<Value>("/healthz").await["waiting"] == 1).then_some(());
        eventually("a request that waits", waiting).await;
        join(first.until_tokens_flow(), second.until_tokens_flow()).await;
        drop(first);
        second
    };
    let (third, mut second) = join(third, make_room).await;
    assert_eq!((third.status, third.body["model"].as_str()), (200, Some(MODEL)));
    second.until_tokens_flow().await;
    drop(second);
    llama.until_idle().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn as_many_clients_as_slots_that_ask_again_at_once_are_never_refused() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let mut request = greedy_chat("Say hello.", 1);
    request["cache_prompt"] = true.into();
    let ask = async || {
        let mut refused = 0;
        for _ in 0..25 {
            if fleet.api.post(CHAT, &request).await.status != 200 {
                refused += 1;
            }
        }
        refused
    };
    assert_eq!(join(ask(), ask()).await, (0, 0));
}
