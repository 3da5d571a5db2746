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
pub mod vars;

pub use agent::{AgentConfig, StatusAddr};
pub use backends::{BackendConfig, BackendOptions, Backends};
pub use coordinator::CoordinatorConfig;
pub use effective::print_effective;
pub use env_file::{EnvFile, EnvFileError, LineFault, read_env_file};
pub use environment::{Environment, Layered, MapEnvironment, NotUnicode, ProcessEnvironment};
pub use examples::{example_agent, example_coordinator};
pub use logging::{LogConfig, LogFormat};
pub use proxy::{NoProxy, Proxy};
pub use report::{Cause, Problem, Report, Warning};
pub use table::{help_text, markdown_table, with_current_table};
pub use variable::{Fallback, Scope, Secrecy, Variable};
