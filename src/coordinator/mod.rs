//! The coordinator: the other end of the wire, and an API in front of it.
//!
//! One HTTP server. Agents come in by WebSocket at `/agent` (or `/`) and prove their key; clients ask for completions in
//! OpenAI's or Anthropic's format. It is what `outpost dev` and the tests run against, and what a person can run for a
//! small fleet. It keeps everything in memory, has no accounts, and offers agents the protocol's extensions.
//!
//! How a request travels:
//!
//! 1. `api` checks the key (where there is none, `keyless` admits only programs on this machine), `intake` reads the
//!    body, `request` finds in it what the coordinator needs to know.
//! 2. `dispatch` asks the `roster` for the least loaded agent that offers the model at the path that is asked for, books
//!    a slot under a handle and hands the job to that agent's `session` by its mailbox.
//! 3. The session writes the `job` frame and keeps its `workload`. Chunks come back and go through a `relay`, bounded in bytes, to the request's
//!    own thread. A job that is refused, not sent, or lost before its first chunk goes to the next best agent.
//! 4. `answer` makes the HTTP response of it: relayed bytes, or one JSON object. A backend's own words about a request
//!    that it refuses reach the client (`backend_refusal`). A stream that fails late ends with an error event and a
//!    body that is cut, so that nobody takes it for whole.
//!
//! Agents that did not agree on the extension `endpoints` get chat completions and messages only, as streams.
//!
//! What is held by whom: a slot in the roster belongs to its handle. The handle is dropped with the HTTP response; if the
//! job has not ended by then it is cancelled. The session owns the sending end of every relay of its agent, so that the
//! end of a session, whatever its cause, is the end of its jobs.
//!
//! Agents are not trusted: a browser's page is none (it sends an `Origin`), frames are bounded before they are read into memory (`inbound`, `borders`), parsed without
//! amplification (`frames`), and answered by closing the connection where they break the rules.
//!
//! A second connection of a public key replaces the first, which is closed with 1008 and the reason `replaced`: the
//! usual cause is a first connection whose network is gone; and where two machines share a key, a close that their logs
//! show as unexpected is the one thing that tells their operator.

mod agents;
mod api;
mod config;
mod fleet;
mod server;
mod state;

pub use config::{CoordinatorConfig, CoordinatorError};
pub use server::{CoordinatorHandle, CoordinatorServer, bind};
