//! The timeout of every wait of the harness. On a paused clock it takes no time.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::timeout;

/// Longer than any wait of an agent that the protocol allows: the longest pause between two tries is under 72 s.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Waits for a future, and panics with what was awaited if it takes longer than [`TIMEOUT`].
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match timeout(TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", TIMEOUT.as_secs()),
    }
}
