//! Waiting for what is bound to come. Only a broken test waits to the end.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// What anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// Waits for a future.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Looks again and again until there is something to see, and says how long that took.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    // A server that is asked for its slots more often finds no time to notice that a client left.
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let seen = async {
        loop {
            ticks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    (within(what, seen).await, start.elapsed())
}
