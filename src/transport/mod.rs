//! How bytes leave this host.

pub mod tls;
