//! `outpost coordinator`: the other end of the wire, until a signal.

use super::exit::ExitStatus;
use super::signals::Signals;
use crate::coordinator::CoordinatorServer;

/// Serves until a signal; a second one cuts what still runs.
pub(crate) async fn serve(server: CoordinatorServer) -> std::io::Result<ExitStatus> {
    let mut signals = Signals::listen()?;
    let handle = server.handle();
    let running = server.run();
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended.map(|()| ExitStatus::Success),
        _ = signals.next() => {}
    }
    tokio::select! {
        ((), ended) = async { tokio::join!(handle.stop(), running) } => ended.map(|()| ExitStatus::Success),
        _ = signals.next() => Ok(ExitStatus::Success),
    }
}
