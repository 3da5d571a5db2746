//! `outpost dev`: a coordinator and an agent in one process on loopback, with a throw-away identity and whatever backends
//! there are; where there is none, with a built-in echo that says that it is one.

pub mod echo;
mod prompt;
mod run;

pub use run::{DevError, DevOptions, run};
