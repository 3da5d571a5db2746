//! `outpost dev`: a coordinator and an agent in one process on loopback, with a throw-away identity and whatever backends
//! there are, or with a built-in echo if there are none.

pub mod echo;
mod prompt;
mod run;

pub(crate) use run::{DevOptions, run};
