//! Processes of the binary, their peers and an HTTP client, each doing only what the test says. Every wait has a deadline.

mod http;
mod peers;
mod process;

use std::future::Future;
use std::time::Duration;

pub(crate) use http::{Response, request};
pub(crate) use peers::{
    HELLO, backend, backend_with, close_code, coordinator, entry, finish, last_events, reset, token,
};
pub(crate) use process::{Finished, Home, NO_BACKEND, Outpost, Setup, agent};

/// What an event may take on a busy machine. Only a broken test takes it.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends a test that would wait for ever.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("in {LIMIT:?} there was no {what}"),
    }
}
