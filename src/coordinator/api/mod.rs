//! The HTTP API: it reads the request of a client, and makes the HTTP response.

mod anthropic;
pub(crate) mod backend_refusal;
pub(crate) mod body_reader;
pub(crate) mod error_kind;
pub(crate) mod errors;
pub(crate) mod handlers;
mod keyless;
mod openai;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod usage_filter;
