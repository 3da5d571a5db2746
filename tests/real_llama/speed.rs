//! What the way through coordinator and agent costs in time.

use std::time::Duration;

use tokio::time::Instant;

use crate::answer::{CHAT, greedy_chat, streamed};
use crate::client::Api;
use crate::fleet::Fleet;
use crate::llama::Llama;

/// Asked each way, in turns.
const ROUNDS: usize = 7;
/// Far more than it takes, far less than what a held-back token would take.
const TOLERABLE: Duration = Duration::from_millis(250);

#[actix_rt::test]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn tokens_come_as_they_are_made() {
    let llama = Llama::given().await;
    let fleet = Fleet::beside(&llama).await;
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(ask(&llama.api).await);
        through.push(ask(&fleet.api).await);
    }
    let (direct_first, direct_last) = medians(direct);
    let (first, last) = medians(through);
    println!("first token: {direct_first:.1?} directly, {first:.1?} through coordinator and agent");
    println!("last of 16:  {direct_last:.1?} directly, {last:.1?} through coordinator and agent");
    assert!(first < direct_first + TOLERABLE, "{first:?} {direct_first:?}");
    assert!(last < direct_last + TOLERABLE, "{last:?} {direct_last:?}");
    assert!(first < last / 2, "{first:?} {last:?}");
}

/// When the first token came, and when the stream ended.
async fn ask(api: &Api) -> (Duration, Duration) {
    let mut request = streamed(greedy_chat("Say hello.", 16));
    request["cache_prompt"] = true.into();
    let start = Instant::now();
    let mut stream = api.stream(CHAT, &request).await;
    stream.until_tokens_flow().await;
    let first = start.elapsed();
    stream.rest().await;
    (first, start.elapsed())
}

fn medians(times: Vec<(Duration, Duration)>) -> (Duration, Duration) {
    let (mut firsts, mut lasts): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    firsts.sort();
    lasts.sort();
    (firsts[firsts.len() / 2], lasts[lasts.len() / 2])
}
