//! The connections to the coordinator: which one is dialled, which one takes jobs, and which one only finishes its own.
//!
//! There is one at most times. During a handover the next one is dialled while the current one works on. Once it is up, the
//! earlier one finishes its jobs, until its deadline.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::links::Connection;
use super::{Exit, SupervisorActor};
use crate::actors::connection::{ConnectionActor, ConnectionEnded, ConnectionExit, Listeners};
use crate::actors::messages::{ConnectionUp, RouterInputs};
use crate::core::session::backoff::{EndClass, Reconnect};
use crate::messages::ids::Generation;
use crate::messages::lifecycle::{Child, ConnectionDown, HandoverAnnounced};
use crate::telemetry::Event;
use crate::telemetry::events::{
    ConnectFailed, Disconnected, HandoverBegun, InternalEnd, Retrying, StaleDropped, StillTrying,
};

/// The least time between the dials of two handovers, for a coordinator that announces one on each new connection.
const BETWEEN_HANDOVERS: Duration = Duration::from_secs(1);

impl SupervisorActor {
    /// Dials the next connection, unless one is being dialled.
    pub(super) fn start_connection(&mut self, ctx: &mut Context<Self>) {
        if let Some(due) = self.connections.redial.take() {
            ctx.cancel_future(due);
        }
        let Some(router) = self.router.clone() else { return };
        if self.connections.next.is_some() || self.drain.is_some() && !self.connections.is_resumable {
            return;
        }
        self.generation = self.generation.next();
        let generation = self.generation;
        let guard = self.guard(Child::Connection(generation), ctx);
        let listeners = Listeners {
            up: [router.clone().recipient(), ctx.address().recipient()],
            router: RouterInputs {
                sessions: router.clone().recipient(),
                jobs: router.clone().recipient(),
                cancels: router.clone().recipient(),
                acks: router.recipient(),
            },
            handovers: ctx.address().recipient(),
            ended: ctx.address().recipient(),
        };
        let setup = self.connection_setup.clone();
        let addr = ConnectionActor { generation, setup, listeners, _guard: guard }.start();
        self.connections.next = Some(Connection { addr, generation, up: None, is_handed_over: false });
    }

    /// After the end of a connection: tells the router, and sees to the next one.
    fn after_connection(&mut self, generation: Generation, exit: ConnectionExit, ctx: &mut Context<Self>) {
        let Some(connection) = self.connections.take(generation) else { return };
        connection.stop_heartbeat();
        self.forget_connection(generation);
        let (class, ended): (EndClass, Box<dyn FnOnce(u32) -> Event>) = match exit {
            ConnectionExit::Failed(cause) => {
                let class = cause.class();
                (class, Box::new(move |failures| ConnectFailed { generation, cause, failures }.into()))
            }
            ConnectionExit::Ended(cause) => {
                (EndClass::Planned, Box::new(move |_| Disconnected { generation, cause }.into()))
            }
        };
        let others = &self.connections;
        let needs_next =
            others.next.is_none() && others.redial.is_none() && !(connection.up.is_some() && others.current.is_some());
        if !needs_next {
            return self.events.emit(ended(0));
        }
        let retry = self.connections.reconnect.after(class, &mut rand::rng());
        self.events.emit(ended(retry.failures));
        if !self.goes_on_draining() {
            // An older one may have jobs to finish, or last frames to send.
            if self.connections.all().next().is_none() {
                self.finish(Exit::Drained, ctx);
            }
            return;
        }
        if retry.tenth {
            self.events.emit(StillTrying { failures: retry.failures });
        }
        self.events.emit(Retrying { wait: retry.wait });
        self.connections.redial = Some(ctx.run_later(retry.wait, Self::start_connection));
    }

    /// A connection is over: its actors are not replaced when they end, and the router learns of it.
    pub(super) fn forget_connection(&mut self, generation: Generation) {
        self.living.remove(&Child::Connection(generation));
        self.living.remove(&Child::Heartbeat(generation));
        if let Some(router) = &self.router {
            router.do_send(ConnectionDown { generation });
        }
    }

    /// Whether a next connection is of use: always, but during a drain only while jobs wait to go on there.
    fn goes_on_draining(&self) -> bool {
        self.drain.as_ref().is_none_or(|drain| {
            self.connections.is_resumable && !drain.closing && drain.in_flight.is_none_or(|in_flight| in_flight > 0)
        })
    }

    /// Closes a connection for an internal reason.
    pub(super) fn give_up_connection(&mut self, generation: Generation, cause: InternalEnd, ctx: &mut Context<Self>) {
        let Some(connection) = self.connections.get(generation) else { return };
        let exit = match &connection.up {
            Some(_) => ConnectionExit::Ended(cause.into()),
            None => ConnectionExit::Failed(cause.into()),
        };
        self.after_connection(generation, exit, ctx);
    }

    /// Closes a connection at once, as a handover wants it. Its jobs end as with any other end of it.
    fn close_handed_over(&mut self, generation: Generation) {
        if let Some(outbox) = self.connections.get(generation).and_then(|connection| connection.outbox()) {
            // One that is gone needs no close.
            let _ = outbox.seal_and_close(1000, "");
        }
    }
}

impl Handler<ConnectionUp> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, up: ConnectionUp, ctx: &mut Self::Context) {
        let generation = up.outbox.generation();
        let Some(mut next) = self.connections.next.take_if(|next| next.generation == generation) else { return };
        next.up = self.start_heartbeat(&up.outbox, ctx).map(|heartbeat| (up.outbox, heartbeat));
        self.connections.is_resumable = up.session.is_some();
        // The current one finishes its jobs. If an older one did so, its close is on its way already, and is not waited for any
        // longer. If the current one was lost, the older one goes on.
        if let Some(current) = self.connections.current.replace(next)
            && let Some(oldest) = self.connections.older.replace(current)
        {
            oldest.stop();
            self.forget_connection(oldest.generation);
        }
    }
}

impl Handler<ConnectionEnded> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ended: ConnectionEnded, ctx: &mut Self::Context) {
        if self.connections.get(ended.generation).is_none() {
            self.events.emit(StaleDropped { what: "end of a connection" });
        }
        self.after_connection(ended.generation, ended.exit, ctx);
    }
}

impl Handler<HandoverAnnounced> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, announced: HandoverAnnounced, ctx: &mut Self::Context) {
        let HandoverAnnounced { generation, deadline } = announced;
        let current = self.connections.current.as_mut();
        let Some(current) = current.filter(|it| it.generation == generation && !it.is_handed_over) else { return };
        current.is_handed_over = true;
        self.events.emit(HandoverBegun { generation, deadline });
        // No more than two connections exist at any time.
        if let Some(older) = self.connections.older.as_ref().map(|older| older.generation) {
            self.close_handed_over(older);
        }
        ctx.run_later(deadline, move |supervisor, _| supervisor.close_handed_over(generation));
        self.connections.reconnect = Reconnect::default();
        let now = Instant::now();
        let dial_at = self.connections.handover_dial.map_or(now, |last| now.max(last + BETWEEN_HANDOVERS));
        self.connections.handover_dial = Some(dial_at);
        if dial_at > now {
            self.connections.redial = Some(ctx.run_later(dial_at - now, Self::start_connection));
        } else {
            self.start_connection(ctx);
        }
    }
}
