//! The actors: thin drivers around the rules of `protocol`.
//!
//! What holds everywhere here:
//!
//! - One `ConnectionActor` is one connection. What survives it (the backoff, the generation) is a value of
//!   the supervisor. Nothing is half reset.
//! - Every message that belongs to a connection carries its generation; a stale one is dropped and counted.
//! - The ledger in the router is the only account of capacity. A job lives as long as its entry there: the entry holds
//!   the job's grip, and dropping the grip, by whatever path, stops the worker and silences the job's frames. So no work
//!   outlives its connection, its router or its process.
//! - A job has one terminal frame: its stream takes the first and no other.
//! - A mailbox does not bound memory. Response bytes travel by the job's stream, which does; mailboxes carry what is rare.
//! - Messages between actors are sent and not awaited, with one exception: the pump awaits the router's answer to a job,
//!   which bounds the jobs on their way, and to a cancel, which puts it before all that comes after it. The router never
//!   waits for anybody.
//! - A job keeps its slot until its last frame is written, so that what waits for a coordinator is bounded by the ledger;
//!   and it has lost it before the coordinator can see that frame.
//! - A panic ends one actor. Its guard tells the supervisor (a worker's tells its pool), which replaces it: a worker's
//!   panic costs one job, a pool's the jobs of one backend, a router's one connection. When actors end faster than the
//!   budget allows, the process ends with its own exit code and whatever runs it starts it again.
//! - An actor knows others as `Recipient`s; only the supervisor knows their types.

mod connection;
mod discovery;
mod envelopes;
mod guard;
mod heartbeat;
mod pool;
mod routed_job;
mod router;
mod supervisor;
mod worker;

pub use envelopes::GetRouterView;
pub use guard::Census;
pub use supervisor::{Exit, Parts, PolicyOf, Settings, SupervisorActor};
