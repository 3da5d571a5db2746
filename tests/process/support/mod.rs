//! What the tests are made of: processes of the binary, a coordinator, inference servers and an HTTP client, each doing
//! only what the test says. Every wait has a deadline.

mod backend;
mod coordinator;
mod http;
mod process;

use std::future::Future;
use std::time::Duration;

pub(crate) use backend::{Backend, Exchange, LAST_EVENTS, token};
pub(crate) use coordinator::{Coordinator, End, Session, job, job_with, read_head, reset};
pub(crate) use http::{Response, request};
pub(crate) use process::{Finished, Home, NOBODY, Outpost, Setup, agent};

/// What an event may take on a busy machine. Only a broken test takes it.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends a test that would wait for ever.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("in {LIMIT:?} there was no {what}"),
    }
}
