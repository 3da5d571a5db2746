//! The actors: thin drivers around the rules of `core`.
//!
//! Semantics that hold for all actors:
//!
//! - One `ConnectionActor` is one connection. What survives it (the backoff, the generation) is a value of
//!   the supervisor. Nothing is half reset.
//! - Every message that belongs to a connection carries its generation; a stale one is dropped and counted.
//! - The ledger in the router is the only account of capacity. A job lives as long as its entry there: the entry holds
//!   the job handle, and dropping the handle stops the worker and the job's frames. So no work outlives its connection,
//!   its router or its process.
//! - A job has one terminal frame: its stream takes the first and no other.
//! - A mailbox does not bound memory. Response bytes go through the job's stream, which does; mailboxes carry only rare
//!   messages.
//! - Messages between actors are sent and not awaited, with one exception: the pump awaits the router's answer to a job,
//!   which bounds the jobs in flight, and to a cancel, so that it takes effect before any later frame. The router never
//!   waits.
//! - A job keeps its slot until its last frame is written, so the ledger bounds what waits for a coordinator. The slot is
//!   free before the coordinator can see that frame.
//! - A panic ends one actor. Its guard tells the supervisor (a worker's tells its pool), which replaces it: a worker's
//!   panic costs one job, a pool's the jobs of one backend, a router's one connection. When actors end faster than the
//!   budget allows, the process ends with an exit code of its own, and the service manager restarts it.
//! - An actor holds `Recipient`s of others; only the supervisor knows their types.
//! - Messages of plain data are in `crate::messages`, those that carry live handles in `messages`.

mod connection;
mod discovery;
mod guard;
mod heartbeat;
mod messages;
mod pool;
mod routed_job;
mod router;
mod supervisor;
mod worker;

pub use guard::ActorCount;
pub(crate) use messages::GetRouterView;
pub(crate) use supervisor::PolicyOf;
pub use supervisor::{Coordinator, Exit, Parts, Settings, SupervisorActor};
