//! What the operator configures: environment variables, read once, checked as a whole.
//!
//! [`vars`] is the one table of variables. Everything else follows from it: what is read and with which default, what an
//! error suggests, the example files, the table in the README. Reading goes through [`Environment`], so that tests pass a
//! map, and it never stops at the first mistake: a [`Report`] holds them all.
//!
//! An empty value means the same as none, so that `OUTPOST_X=` at a prompt takes back what an `--env-file` sets.

mod agent;
mod backends;
mod coordinator;
mod coordinators;
mod effective;
mod env_file;
mod environment;
mod examples;
mod logging;
mod prices;
mod proxy;
mod reader;
mod report;
mod table;
mod units;
mod unknown;
mod urls;
mod variable;
pub(crate) mod vars;

pub use agent::AgentConfig;
pub(crate) use agent::{LedgerConfig, StatusAddr};
pub(crate) use backends::{BackendConfig, BackendOptions, Backends};
pub use coordinator::{AgentHosts, CoordinatorConfig};
pub(crate) use coordinators::CoordinatorSite;
pub(crate) use effective::print_effective;
pub(crate) use env_file::read_env_file;
#[cfg(any(test, fuzzing))]
pub(crate) use env_file::{parse as parse_env_file, quote};
pub use environment::MapEnvironment;
pub(crate) use environment::{Environment, Layered, ProcessEnvironment};
pub(crate) use examples::{example_agent, example_coordinator};
pub(crate) use logging::{LogConfig, LogFormat};
pub(crate) use report::{Report, Warning};
pub(crate) use table::help_text;
pub(crate) use variable::Scope;
