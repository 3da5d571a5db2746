//! What `outpost dev` brings along so that it works on a machine with no inference server at all.

pub mod echo;
