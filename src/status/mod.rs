//! The status server of an agent: a page for a person, `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`; and
//! its client.

mod client;
mod error;
mod history;
mod metrics;
mod page;
mod server;
mod sources;
mod state;

pub(crate) use client::fetch;
pub(crate) use error::StatusError;
pub(crate) use server::StatusServer;
pub(crate) use sources::ViewSource;
pub(crate) use state::State;
