//! How long the harness waits before it says what did not come. On a paused clock that costs no time.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::timeout;

/// Longer than anything the protocol lets an agent wait: the longest pause between two tries is under 72 s.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a future, and panics with what was awaited if it takes longer than [`PATIENCE`].
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", PATIENCE.as_secs()),
    }
}
