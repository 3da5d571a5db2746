//! The status server of an agent: `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`; and its client.

mod client;
mod error;
mod metrics;
mod server;

pub(crate) use client::fetch;
pub(crate) use error::StatusError;
pub(crate) use server::{StatusServer, ViewSource};
