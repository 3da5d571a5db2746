//! Anthropic's messages over a server that has only chat completions: what requests become, and what answers become.

mod answers;
mod grammar;
mod hostile;
mod recorded;
mod refused_requests;
mod requests;
mod stream;
