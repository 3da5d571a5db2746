//! The status server of an agent: a page for a person, `/status` (JSON), `/metrics` (Prometheus), `/healthz` and `/readyz`; and
//! its client.

mod client;
mod control;
mod error;
mod history;
mod metrics;
mod order;
mod page;
mod server;
mod sources;
mod state;
mod token;

pub(crate) use client::{fetch, give_order};
pub(crate) use error::StatusError;
pub(crate) use order::{Control, Order};
pub(crate) use server::StatusServer;
pub(crate) use sources::ViewSource;
pub(crate) use state::State;
pub(crate) use token::{create_token, read_token, write_private};
