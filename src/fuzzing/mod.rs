//! The checks of the fuzzer: what holds for all input that comes from outside. `fuzz/README.md` says how they are run.
//!
//! Each check takes any bytes and panics where a property does not hold. The tests here run all checks over the corpus in
//! `fuzz/corpus`, and over random changes of it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that does not hold ends the run"
)]

mod input;
#[cfg(test)]
mod tests;

/// Makes a target and its test of one name: the module of that name has the check.
macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(mod $name;)*
        $($(#[$doc])* pub use self::$name::check as $name;)*

        /// Every target: its name, and its check.
        pub const TARGETS: [(&str, fn(&[u8])); [$(stringify!($name)),*].len()] = [$((stringify!($name), $name)),*];

        #[cfg(test)]
        mod holds {
            $(#[test] fn $name() { super::tests::holds(stringify!($name), super::$name); })*
        }
    };
}

targets! {
    /// Streams made of one body.
    assemble,
    /// Requests of the coordinator's clients, and what they get of a stream.
    client,
    /// Bodies made of a stream.
    disassemble,
    /// The configuration and the identity.
    files,
    /// Frames of the handshake.
    handshake,
    /// Responses of backends and of proxies.
    http,
    /// The JSON toolkit.
    json,
    /// Streams that may contain a backend's API key.
    key_filter,
    /// What the policy lets through of a request.
    request,
    /// The router's state machine.
    router,
    /// A session of an agent with a coordinator, whose connections are cut.
    session,
    /// The splitter of events.
    sse,
    /// What a coordinator sends.
    to_agent,
    /// What an agent sends.
    to_coordinator,
    /// Requests for messages.
    translate_request,
    /// Chat completions that become messages.
    translate_stream,
    /// How a response ended.
    usage,
    /// Frames of WebSocket.
    websocket,
}
