//! The public test harness: real agents between scripted coordinators and scripted backends.
//!
//! For tests of this crate and of programs that use it. The agent is the real one, from its supervisor to the bytes of its
//! WebSocket frames; only the network and the servers are replaced.
//!
//! | part | is |
//! | --- | --- |
//! | [`Harness`] | one agent and its scripted coordinator, in memory |
//! | [`World`] | several agents, with several scripted coordinators in memory, or with the real coordinator over TCP |
//! | [`ScriptedCoordinator`], [`CoordinatorLink`] | takes the connections of agents; sends and awaits frames; breaks dials and connections |
//! | [`ScriptedBackend`], [`Reply`], [`Request`] | an inference server that answers as a script says, or by hand |
//! | [`ScriptedAgent`] | the other side: an agent for tests of coordinators |
//! | [`RealCoordinator`] | the coordinator of this crate on a free port |
//! | [`MemoryCoordinator`] | the same in memory, on a paused clock |
//! | [`HttpRequest`], [`accept_websocket`] | the server's part of HTTP/1.1, for tests that write a response's bytes themselves |
//!
//! The types of the agent that these take, hold or return are exported here too: [`Event`] and [`events`], [`Snapshot`], [`Settings`],
//! [`Frame`], [`DialError`] and others. So is what [`conformance`](crate::conformance) needs: [`Identity`],
//! [`WebSocketConnector`], [`client_config`].
//!
//! In memory the clock is paused: a minute of backoff takes no time, and a wait for something that never comes fails at
//! once and reports what it waited for. [`ScriptedCoordinator::listen`] and [`ScriptedBackend::listen`] serve the same
//! scripts over TCP, for tests of the binary; then the clock runs.
//!
//! Each frame that an agent sends, in any test, is checked against the protocol: its types and fields, one end for each
//! job, nothing about jobs that another connection sent. Each test must stop its agents, which fails if an actor or a
//! request at a backend is left.
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
//! In a test the body is an `async fn` under `#[actix_rt::test(system = "outpost::testkit::System")]`, see [`System`].
#![expect(clippy::panic, reason = "a wait or a check that fails ends the test")]

mod agent;
mod agent_event;
mod backend;
mod backend_listener;
mod builder;
mod clock;
mod coordinator;
mod coordinator_listener;
mod dialogue;
mod faults;
mod grammar;
mod harness;
mod http;
mod journal;
mod link;
mod memory_coordinator;
mod recorder;
mod reply;
mod request;
mod running_agent;
mod sessions;
mod socket;
mod system;
mod wire;
mod within;
mod world;

pub use agent::{ScriptedAgent, agent_key};
pub use agent_event::AgentEvent;
pub use backend::{Health, ScriptedBackend};
pub use builder::AgentBuilder;
pub use clock::Clock;
pub use coordinator::ScriptedCoordinator;
pub use dialogue::{JobEnd, JobTrace, job_frame, job_frame_at};
pub use harness::Harness;
pub use http::HttpRequest;
pub use journal::LoggedEvent;
pub use link::{CoordinatorLink, LinkFault};
pub use memory_coordinator::{Killed, MemoryCoordinator, MemoryResponse};
pub use recorder::{Recorded, Recorder};
pub use reply::{Reply, StreamFault, answer, whole_answer};
pub use request::{Request, RequestState};
pub use running_agent::RunningAgent;
pub use sessions::RESUME_WINDOW;
pub use socket::accept_websocket;
pub use system::System;
pub use wire::{DialFault, TARGET};
pub use within::{TIMEOUT, within};
pub use world::{RealCoordinator, World, WorldBuilder};

pub use crate::actors::{Exit, Settings};
pub use crate::backends::{
    Backend, BackendFactory, BackendRequest, BackendResponse, BodyError, ProbeResult, SendError, Source,
};
pub use crate::config::{AgentHosts, CoordinatorConfig};
pub use crate::coordinator::CoordinatorHandle;
pub use crate::core::formats::policy::RemoteMedia;
pub use crate::core::scheduling::catalog::BackendPolicy;
pub use crate::core::session::close::LinkEnd;
pub use crate::core::session::handshake::HandshakeFailure;
pub use crate::identity::Identity;
pub use crate::messages::backend::{BackendKind, Format};
pub use crate::messages::discovery::{BackendReport, ModelReport, ProbeError};
pub use crate::messages::host_port::HostPort;
pub use crate::messages::lifecycle::{Child, CloseKind};
pub use crate::messages::prices::{Price, PriceList};
pub use crate::messages::secret::Secret;
pub use crate::telemetry::events;
pub use crate::telemetry::snapshot::BackendState;
pub use crate::telemetry::{Event, Phase, Snapshot};
pub use crate::transport::dial::WebSocketConnector;
pub use crate::transport::stream::{DialError, UpgradeFault};
pub use crate::transport::tcp::ProxyTarget;
pub use crate::transport::tls::client_config;
pub use crate::transport::websocket::codec::Frame;
pub use crate::transport::websocket::link::{Connector, Upgraded};
