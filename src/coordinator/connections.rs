//! The connections of a coordinator: accepts them and serves HTTP/1.1 on each.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::web::Data;
use futures_util::future::ok;
use socket2::{Domain, Protocol, Socket, Type};

use super::app::app;
use super::state::CoordinatorState;
use crate::coordinator::agents::peer::Peer;
use crate::coordinator::events::{PeerTakesNothing, SocketOptionRefused};
use crate::transport::tcp::{end_when_unacknowledged, set_up};
use crate::transport::write_deadline::WriteDeadline;

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 2048;
/// How long a client may take to send the head of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to close a connection whose last response it has.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take nothing of its response. The kernel of one that reads 2 KB/s opens its window once a minute, and after
/// megabytes that it has buffered once in three.
const CLIENT_STALL: Duration = Duration::from_secs(300);
/// Seconds for what is still on its way to clients that have taken over their responses.
const SHUTDOWN_TIMEOUT: u64 = 2;

/// A socket that listens. Its address is known before the server is.
pub(super) fn listen(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    // A coordinator that restarts gets its port back while connections of the last one time out.
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves the connections to a listener. The server begins with its first poll.
pub(super) fn serve(
    listener: TcpListener,
    local_addr: SocketAddr,
    state: &Arc<CoordinatorState>,
) -> io::Result<Server> {
    let threads = state.config.threads.max(1);
    let connections = state.config.max_connections.div_ceil(threads).max(1);
    let builder = Server::build()
        .workers(threads)
        .max_concurrent_connections(connections)
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_TIMEOUT);
    let stop = builder.graceful_shutdown_signal();
    let state = Arc::clone(state);
    let builder = builder.listen("coordinator", listener, move || {
        let (stop, shared) = (stop.clone(), Arc::clone(&state));
        let app = app(Data::from(Arc::clone(&state))).into_factory().map_err(|error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stop = stop.clone();
                async move { stop.notified().await }
            })
            .client_request_timeout(REQUEST_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            // A client that closes its side has disconnected: its job is cancelled at once.
            .h1_allow_half_closed(false)
            .local_addr(local_addr)
            .on_connect_ext(|stream: &WriteDeadline<TcpStream, _>, data| drop(data.insert(stream.limit().clone())))
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            ok((bounded(stream, peer, &shared), peer))
        })
        .and_then(http)
    })?;
    Ok(builder.run())
}

/// Ends a connection whose peer takes no bytes for [`CLIENT_STALL`], or for as long as a job may take. An agent's session lowers that:
/// it does not run while its socket is full, so it can't check this itself.
fn bounded(
    stream: TcpStream,
    peer: Option<SocketAddr>,
    state: &Arc<CoordinatorState>,
) -> WriteDeadline<TcpStream, impl FnOnce() + use<>> {
    let limit = CLIENT_STALL.min(state.config.job_timeout);
    if let Err(cause) = set_up(&stream).and_then(|()| end_when_unacknowledged(&stream, limit)) {
        state.events.emit(&SocketOptionRefused { cause });
    }
    let state = Arc::clone(state);
    WriteDeadline::new(stream, limit, move || state.events.emit(&PeerTakesNothing { peer: Peer(peer) }))
}
