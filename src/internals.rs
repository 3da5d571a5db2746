//! What the crate's own tests in `tests` and its benchmarks use of it, besides [`testkit`](crate::testkit). Not for other
//! users: it changes without notice.

pub use crate::actors::{ActorCount, Coordinator, Parts, SupervisorActor};
pub use crate::backends::client::HttpBackendFactory;
pub use crate::backends::{auto, configured};
pub use crate::config::{AgentConfig, MapEnvironment};
pub use crate::coordinator::{CoordinatorError, bind};
pub use crate::core::formats::assemble::Assembly;
pub use crate::core::formats::policy::RequestPolicy;
pub use crate::core::formats::request::backend_body;
pub use crate::core::formats::usage::ResponseScan;
pub use crate::core::scheduling::ledger::Ledger;
pub use crate::dev::echo;
pub use crate::messages::jobs::{JobEnded, Outcome, Ticket};
pub use crate::relay::allowance::Allowance;
pub use crate::relay::outbox::Outbox;
pub use crate::telemetry::Events;
pub use crate::transport::websocket::codec::{FrameReader, Role, encode};
pub use crate::transport::websocket::link::Link;
