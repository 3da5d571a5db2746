//! The command line: one file a command. A flag exists only for what one sets by hand at a prompt; everything else is
//! environment.

mod command_line;
mod completions;
mod config;
mod conformance;
mod coordinator;
mod dev;
mod identity;
mod pause;
mod process;
mod run;
mod status;
mod usage;

pub use command_line::main;
