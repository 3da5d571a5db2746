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
//! 2. `fleet/dispatch` claims a slot of the least loaded agent that offers the model at the path and takes a frame of the job's
//!    length (`fleet/job_frame`): it is booked in the `fleet/roster`. If all of these agents are full or have lost their
//!    connection, the request waits in the `fleet/wait_queue`, as `fleet/waiting_request`, for a limited time. `fleet/slots` has
//!    both under one lock and gives each slot that becomes free to the request that is next: clients take turns, and each is
//!    served in the order of arrival. A handle owns the slot.
//! 3. The job is sent to the mailbox of that agent's `agents/session`. The connection's actor writes the `job` frame and keeps
//!    the job in the `agents/workload` of the agent's session. The chunks of the response go through a
//!    `fleet/response_channel`, bounded in bytes, to the `fleet/running_job` on the thread of the request. A job that fails
//!    before the client has got a byte of the response is sent to another agent, if `fleet/retry` allows it: at most twice, and
//!    not if the request is to blame.
//! 4. `api/response` makes the HTTP response: the relayed bytes, or one JSON object. If a backend refuses a request, the
//!    client gets the backend's error message (`api/backend_refusal`). A stream that fails late ends with an error event and
//!    without the last chunk of its body, so that no client takes it for complete.
//! 5. The end of each job is one event of `events/jobs`: a log line and the counts of `metrics`. So are a retry and the end of
//!    a wait.
//!
//! Agents without the extension `endpoints` get only chat completions and messages, as streams.
//!
//! An agent that refuses a job because it is full (`out_of_capacity`) has no slot for that model until one of its jobs ends, it
//! sends an offer, or a second has passed. Each response with status 429 or 503 gets a `Retry-After` in `retry_after`.
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
//! Agents are not trusted. A web page cannot be one (its browser sends an `Origin`). Frames are bounded before they are read into
//! memory (`agents/inbound`, `agents/frame_scanner`) and parsed without amplification (`agents/frames`). A violation of the protocol
//! closes the connection, and so does an agent that reads nothing for a minute (`connections`). With the extension `auth2` an agent's signature must name this coordinator
//! (`agents/handshake`), so that another coordinator can't make its agents sign for this one.
//!
//! A second connection with the same public key replaces the first, which is closed with 1008 and the reason `replaced`, or
//! with 1000 if the second one goes on with its session. The usual cause is that the network of the first connection
//! failed. If two machines share a key, the unexpected close in their logs shows it to their operator.

mod agents;
mod api;
mod app;
mod connections;
mod error;
mod events;
mod fleet;
mod metrics;
mod retry_after;
mod server;
mod state;

#[cfg(any(test, fuzzing))]
pub(crate) use agents::{frame_scanner, frames as agent_frames, tests::random as random_sessions};
#[cfg(any(test, fuzzing))]
pub(crate) use api::{request as client_request, usage_filter};
pub use error::CoordinatorError;
#[cfg(feature = "testkit")]
pub use server::CoordinatorHandle;
pub(crate) use server::CoordinatorServer;
pub use server::bind;
#[cfg(feature = "testkit")]
pub(crate) use {
    agents::session_lifecycle::expire_sessions, app::app, server::dismiss_agents, state::CoordinatorState,
};
