//! The signals that stop the process.

use std::io;

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGTERM, as a service manager sends it.
    Terminate,
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
}

/// SIGTERM and SIGINT as they come.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on these signals come here and end nothing by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Interrupt {
        tokio::select! {
            Some(()) = self.terminate.recv() => Interrupt::Terminate,
            Some(()) = self.interrupt.recv() => Interrupt::Interrupt,
            else => std::future::pending().await,
        }
    }
}

/// Ctrl-C as it comes.
#[cfg(not(unix))]
pub struct Signals(());

#[cfg(not(unix))]
impl Signals {
    /// From now on Ctrl-C comes here.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Interrupt {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Interrupt::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
