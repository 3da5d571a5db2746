//! The coordinator: the server that agents connect to, with an HTTP API for clients.
//!
//! One HTTP server. Agents connect by WebSocket at `/agent` (or `/`) and prove their key; clients send requests in OpenAI's
//! or Anthropic's format. `outpost dev` and the tests run against it, and an operator can run it for a small fleet. It keeps
//! its state in memory, has no user accounts, and offers agents the protocol's extensions.
//!
//! How a request is served:
//!
//! 1. `api/handlers` checks the key (without one, `api/keyless` admits only programs on this machine), `api/body_reader`
//!    reads the body, `api/request` finds the fields that the coordinator needs.
//! 2. `fleet/dispatch` takes the least loaded agent that offers the model at the path and takes a frame of the job's length
//!    (`fleet/job_frame`) from the `fleet/roster`, books a slot, and sends the job to the mailbox of that agent's
//!    `agents/session`. A handle owns the slot.
//! 3. The connection's actor writes the `job` frame and keeps the job in the `agents/workload` of the agent's session. The
//!    chunks of the response go through a `fleet/response_channel`, bounded in bytes, to the thread of the request. A job
//!    that is refused, not sent, or lost before its first chunk is sent to the next best agent.
//! 4. `api/response` makes the HTTP response: the relayed bytes, or one JSON object. If a backend refuses a request, the
//!    client gets the backend's error message (`api/backend_refusal`). A stream that fails late ends with an error event and
//!    without the last chunk of its body, so that no client takes it for complete.
//! 5. The end of each job is one event of `events/jobs`: a log line and the counts of `metrics`.
//!
//! Agents without the extension `endpoints` get only chat completions and messages, as streams.
//!
//! Ownership: a slot in the roster belongs to the handle of its job. The handle is dropped with the HTTP response, which
//! cancels a job that has not ended. The session (`agents/agent_session`) owns the sending ends of the response channels of its
//! agent, so that the end of a session, whatever its cause, ends its jobs. One connection at a time may change it.
//!
//! With the extension `resume` a session with jobs outlives its connection. Its agent leaves the roster, and its jobs keep their
//! slots and wait until the agent returns or the window has passed (`agents/session_lifecycle`). A request without a byte of a
//! response goes to another agent instead, if one is free. Bytes that the client's side took over are acknowledged to the agent,
//! which keeps the others, so that a slow client slows the backend down.
//!
//! A stop announces itself to the agents with the extension `handover`, and refuses what is new with 503 while running jobs end.
//!
//! Agents are not trusted. A web page cannot be an agent (its browser sends an `Origin`). Frames are bounded before they are
//! read into memory (`agents/inbound`, `agents/frame_scanner`) and parsed without amplification (`agents/frames`). A violation
//! of the protocol closes the connection. With the extension `auth2` an agent's signature must name this coordinator
//! (`agents/handshake`), so that another coordinator can't make its agents sign for this one.
//!
//! A second connection with the same public key replaces the first, which is closed with 1008 and the reason `replaced`, or
//! with 1000 if the second one goes on with its session. The usual cause is that the network of the first connection
//! failed. If two machines share a key, the unexpected close in their logs shows it to their operator.

mod agents;
mod api;
mod error;
mod events;
mod fleet;
mod metrics;
mod server;
mod state;

#[cfg(any(test, fuzzing))]
pub(crate) use agents::{frame_scanner, frames as agent_frames};
#[cfg(any(test, fuzzing))]
pub(crate) use api::{request as client_request, usage_filter};
pub use error::CoordinatorError;
#[cfg(feature = "testkit")]
pub use server::CoordinatorHandle;
pub(crate) use server::CoordinatorServer;
pub use server::bind;
