//! The connections of one client that wait for its next request. Used by `request`, filled by `body`.
//!
//! A connection is kept only after a response whose framing ended completely. It is closed after [`LIMIT`]: servers close
//! idle connections themselves after some seconds, and some of them keep a thread for each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until};

use super::origin::Connection;

/// How long a connection may wait for the next request.
const LIMIT: Duration = Duration::from_secs(1);
/// Connections that wait at the same time. More are closed.
const MOST: usize = 64;

/// Open connections to one origin, all of one thread.
#[derive(Default)]
pub(crate) struct IdleConnections {
    /// Each with the time at which it is closed, the next one first.
    waiting: RefCell<VecDeque<(Instant, Box<dyn Connection>)>>,
    /// Whether a task closes those whose time has come.
    has_timer: Cell<bool>,
}

impl IdleConnections {
    /// The connection that was used last, if one is still open.
    pub(super) fn take(&self) -> Option<Box<dyn Connection>> {
        loop {
            let (closed_at, mut connection) = self.waiting.borrow_mut().pop_back()?;
            if Instant::now() < closed_at && is_quiet(&mut *connection) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: Rc<Self>, connection: Box<dyn Connection>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MOST {
            return;
        }
        waiting.push_back((Instant::now() + LIMIT, connection));
        if !self.has_timer.replace(true) {
            // A response ends where nothing can be awaited. The task ends when no connection waits.
            #[allow(clippy::disallowed_methods)]
            actix_rt::spawn(close_in_time(Rc::downgrade(&self)));
        }
    }

    /// Closes the connections whose time has come. When to do so again, unless none waits.
    fn close_due(&self) -> Option<Instant> {
        let mut waiting = self.waiting.borrow_mut();
        let now = Instant::now();
        while waiting.front().is_some_and(|(closed_at, _)| *closed_at <= now) {
            waiting.pop_front();
        }
        let next = waiting.front().map(|(closed_at, _)| *closed_at);
        self.has_timer.set(next.is_some());
        next
    }
}

async fn close_in_time(connections: Weak<IdleConnections>) {
    while let Some(next) = connections.upgrade().and_then(|connections| connections.close_due()) {
        sleep_until(next).await;
    }
}

/// Whether nothing can be read: neither the end of the stream, nor bytes that belong to no request, nor an error. The
/// socket is asked itself, since the runtime learns of what arrives with a delay.
fn is_quiet(connection: &mut dyn Connection) -> bool {
    let mut byte = [0; 1];
    let mut cx = Context::from_waker(Waker::noop());
    // TLS takes records that hold no data, such as session tickets.
    if Pin::new(&mut *connection).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_ready() {
        return false;
    }
    let peeked = SockRef::from(connection.tcp()).peek(&mut [MaybeUninit::uninit()]);
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
