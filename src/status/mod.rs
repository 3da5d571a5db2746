//! The status server of an agent: `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`; and its client.

mod client;
mod error;
mod metrics;
mod server;

pub use client::{Status, fetch};
pub use error::StatusError;
pub use server::{StatusServer, ViewSource};
