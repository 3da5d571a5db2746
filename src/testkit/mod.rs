//! The harness: a whole agent in memory, between a scripted coordinator and scripted backends.
//!
//! For tests of this crate and of programs that use it. The agent is the real one, from its supervisor to the bytes of its
//! WebSocket frames; only the network and the servers are replaced. The clock is paused: a minute of backoff takes no
//! time, and a wait for what never comes fails at once and says what it waited for.
//!
//! Each frame that the agent sends, in any test, is held to the protocol: its types and fields, one end a job, nothing of
//! jobs that another connection sent. And each test must stop its agent, which fails if an actor or a request at a backend
//! outlives it.
//!
//! ```
//! use outpost::messages::endpoint::Endpoint;
//! use outpost::testkit::{Harness, Reply, ScriptedBackend};
//!
//! # actix_rt::System::new().block_on(async {
//! let backend = ScriptedBackend::new("box", &["llama"]);
//! backend.reply([Reply::saying(Endpoint::ChatCompletions, "four")]);
//! let mut harness = Harness::builder().backend(&backend).start();
//!
//! let mut link = harness.coordinator.next_connection().await;
//! link.welcome().await;
//! assert_eq!(link.offered().await, ["llama"]);
//!
//! let job = link.job("llama", r#"{"messages":[{"role":"user","content":"2+2?"}]}"#);
//! let trace = link.outcome_of(job).await;
//! assert_eq!(trace.done().tokens.output, 5);
//! assert!(String::from_utf8(trace.bytes)?.contains("four"));
//!
//! let state = harness.until(|state| state.jobs.done == 1).await;
//! assert_eq!(state.in_flight, 0);
//! harness.stop().await;
//! # Ok::<(), std::string::FromUtf8Error>(())
//! # }).unwrap();
//! ```
//!
//! In a test the body stands in an `async fn` under `#[actix_rt::test]`.
#![expect(clippy::panic, reason = "what does not come as a test awaits it fails the test, here and nowhere else")]

mod agent;
mod backend;
mod builder;
mod coordinator;
mod dialogue;
mod faults;
mod grammar;
mod harness;
mod journal;
mod link;
mod patience;
mod probe;
mod reply;
mod request;
mod socket;
mod wire;

pub use agent::{AgentEvent, ScriptedAgent, agent_key};
pub use backend::{Health, ScriptedBackend};
pub use builder::HarnessBuilder;
pub use coordinator::ScriptedCoordinator;
pub use dialogue::{JobEnd, JobTrace, order, order_at};
pub use harness::{Clock, Harness};
pub use journal::Entry;
pub use link::{CoordinatorLink, LinkFault};
pub use patience::{PATIENCE, within};
pub use probe::{Probe, Recorded};
pub use reply::{Reply, StreamFault, answer, whole_answer};
pub use request::{Request, RequestState};
pub use socket::accept_websocket;
pub use wire::{DialFault, TARGET};
