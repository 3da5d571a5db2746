//! The HTTP API: it reads a client's request, and makes a response of a job's answer or of an error.

pub(crate) mod answer;
mod anthropic;
pub(crate) mod backend_refusal;
pub(crate) mod error_kind;
pub(crate) mod errors;
pub(crate) mod handlers;
pub(crate) mod intake;
mod keyless;
mod openai;
pub(crate) mod request;
mod usage_filter;
