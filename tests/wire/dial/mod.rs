//! Dialling the coordinator over real sockets: TLS, the HTTP upgrade, proxies and limits, against servers that do what
//! the test says. What happens on an open connection is tested elsewhere.

mod answers;
mod authority;
mod binary;
mod certificates;
mod environment;
mod limits;
mod proxies;
mod scripted;
mod server;
mod sockets;
