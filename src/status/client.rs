//! The client of the status server, and what it reads.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::StatusError;
use super::order::Order;
use super::state::State;
use crate::messages::secret::Secret;
use crate::messages::untrusted::Untrusted;
use crate::telemetry::Snapshot;

/// How long the client waits.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// The largest refusal of an order that the client reads.
const MAX_REFUSAL: usize = 4 * 1024;
/// The largest status that the client reads.
const MAX_STATUS: usize = 4 * 1024 * 1024;

/// The body of `/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status<R = Value> {
    /// The agent's state.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// The state in one sentence.
    #[serde(default)]
    pub state: Option<State>,
    /// The router's state; none while there is no router.
    #[serde(skip_serializing_if = "Option::is_none", default = "no_router")]
    pub router: Option<R>,
}

fn no_router<R>() -> Option<R> {
    None
}

/// Gives a running agent an order.
pub(crate) async fn give_order(addr: SocketAddr, token: &Secret, order: Order) -> Result<(), StatusError> {
    let client = awc::Client::builder().timeout(FETCH_LIMIT).disable_redirects().finish();
    let request = client.post(format!("http://{addr}/orders")).bearer_auth(token.reveal());
    let mut response = request.send_json(&order).await.map_err(|_| StatusError::NoAnswer(addr))?;
    if response.status().is_success() {
        return Ok(());
    }
    let body = response.body().limit(MAX_REFUSAL).await.unwrap_or_default();
    Err(StatusError::Refused(addr, Untrusted(String::from_utf8_lossy(&body).trim()).to_string()))
}

/// Reads the status of a running agent.
pub(crate) async fn fetch(addr: SocketAddr) -> Result<Status, StatusError> {
    let client = awc::Client::builder().timeout(FETCH_LIMIT).disable_redirects().finish();
    let response = client.get(format!("http://{addr}/status")).send().await;
    let mut response = response.map_err(|_| StatusError::NoAnswer(addr))?;
    let body = response.body().limit(MAX_STATUS).await.map_err(|_| StatusError::NotOurs(addr))?;
    serde_json::from_slice(&body).map_err(|_| StatusError::NotOurs(addr))
}
