//! The status server of an agent: `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`; and its client.

mod metrics;
mod server;

pub use server::{StatusError, StatusServer, fetch};
