//! The connections to each coordinator: which one is dialled, which one takes jobs, and which one only finishes its own.
//!
//! A coordinator has one at most times, and none knows of another. During a handover the next one is dialled while the current
//! one works on. Once it is up, the earlier one finishes its jobs, until its deadline.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::links::{Connection, Connections};
use super::{Exit, SupervisorActor};
use crate::actors::connection::{ConnectionActor, ConnectionEnded, ConnectionExit, Listeners};
use crate::actors::messages::{ConnectionUp, RouterInputs};
use crate::core::session::backoff::{EndClass, Reconnect};
use crate::messages::ids::{CoordinatorId, Generation};
use crate::messages::lifecycle::{Child, ConnectionDown, HandoverAnnounced};
use crate::telemetry::Event;
use crate::telemetry::events::{
    ConnectFailed, Disconnected, HandoverBegun, InternalEnd, Retrying, StaleDropped, StillTrying,
};

impl SupervisorActor {
    pub(super) fn coordinator_ids(&self) -> Vec<CoordinatorId> {
        self.coordinators.iter().map(|connections| connections.coordinator).collect()
    }

    fn of(&mut self, coordinator: CoordinatorId) -> Option<&mut Connections> {
        self.coordinators.get_mut(usize::from(coordinator.0))
    }

    /// The connections to all coordinators.
    pub(super) fn connections(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.coordinators.iter_mut().flat_map(Connections::all)
    }

    pub(super) fn connection(&mut self, generation: Generation) -> Option<&mut Connection> {
        self.connections().find(|connection| connection.generation == generation)
    }

    /// Dials the next connection to a coordinator later.
    fn dial_in(&mut self, wait: Duration, coordinator: CoordinatorId, ctx: &mut Context<Self>) {
        let redial = ctx.run_later(wait, move |supervisor, ctx| supervisor.start_connection(coordinator, ctx));
        if let Some(connections) = self.of(coordinator) {
            connections.redial = Some(redial);
        }
    }

    /// Dials the next connection to a coordinator, unless one is being dialled.
    pub(super) fn start_connection(&mut self, coordinator: CoordinatorId, ctx: &mut Context<Self>) {
        let is_draining = self.drain.is_some();
        let (router, number) = (self.router.clone(), self.connection_count + 1);
        let Some(connections) = self.of(coordinator) else { return };
        if let Some(due) = connections.redial.take() {
            ctx.cancel_future(due);
        }
        let Some(router) = router else { return };
        if connections.next.is_some() || is_draining && !connections.is_resumable {
            return;
        }
        let setup = connections.setup.clone();
        let generation = Generation { number, coordinator };
        self.connection_count = number;
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
        let addr = ConnectionActor { generation, setup, listeners, _guard: guard }.start();
        if let Some(connections) = self.of(coordinator) {
            connections.next = Some(Connection { addr, generation, up: None, is_handed_over: false });
        }
    }

    /// After the end of a connection: tells the router, and sees to the next one.
    fn after_connection(&mut self, generation: Generation, exit: ConnectionExit, ctx: &mut Context<Self>) {
        let coordinator = generation.coordinator;
        let Some(connection) = self.of(coordinator).and_then(|connections| connections.take(generation)) else {
            return;
        };
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
        let Some(others) = self.of(coordinator) else { return };
        let needs_next =
            others.next.is_none() && others.redial.is_none() && !(connection.up.is_some() && others.current.is_some());
        if !needs_next {
            return self.events.emit(ended(0));
        }
        let (retry, is_resumable) = (others.reconnect.after(class, &mut rand::rng()), others.is_resumable);
        self.events.emit(ended(retry.failures));
        if !self.goes_on_draining(is_resumable) {
            // An older one may have jobs to finish, or last frames to send, and another coordinator may be dialled for its jobs.
            let goes_on = |other: &Connections| other.redial.is_some() && self.goes_on_draining(other.is_resumable);
            if !self.coordinators.iter().any(goes_on) && self.connections().next().is_none() {
                self.finish(Exit::Drained, ctx);
            }
            return;
        }
        if retry.tenth {
            self.events.emit(StillTrying { generation, failures: retry.failures });
        }
        self.events.emit(Retrying { generation, wait: retry.wait });
        self.dial_in(retry.wait, coordinator, ctx);
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
    fn goes_on_draining(&self, is_resumable: bool) -> bool {
        self.drain
            .as_ref()
            .is_none_or(|drain| is_resumable && !drain.closing && drain.in_flight.is_none_or(|in_flight| in_flight > 0))
    }

    /// Closes a connection for an internal reason.
    pub(super) fn give_up_connection(&mut self, generation: Generation, cause: InternalEnd, ctx: &mut Context<Self>) {
        let Some(connection) = self.connection(generation) else { return };
        let exit = match &connection.up {
            Some(_) => ConnectionExit::Ended(cause.into()),
            None => ConnectionExit::Failed(cause.into()),
        };
        self.after_connection(generation, exit, ctx);
    }

    /// Closes a connection at once, as a handover wants it. Its jobs end as with any other end of it.
    fn close_handed_over(&mut self, generation: Generation) {
        if let Some(outbox) = self.connection(generation).and_then(|connection| connection.outbox().cloned()) {
            // One that is gone needs no close.
            let _ = outbox.seal_and_close(1000, "");
        }
    }
}

impl Handler<ConnectionUp> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, up: ConnectionUp, ctx: &mut Self::Context) {
        let generation = up.outbox.generation();
        let Some(connections) = self.of(generation.coordinator) else { return };
        let Some(mut next) = connections.next.take_if(|next| next.generation == generation) else { return };
        connections.is_resumable = up.session.is_some();
        next.up = self.start_heartbeat(&up.outbox, ctx).map(|heartbeat| (up.outbox, heartbeat));
        let Some(connections) = self.of(generation.coordinator) else { return };
        // The current one finishes its jobs. If an older one did so, its close is on its way already, and is not waited for any
        // longer. If the current one was lost, the older one goes on.
        if let Some(current) = connections.current.replace(next)
            && let Some(oldest) = connections.older.replace(current)
        {
            oldest.stop();
            self.forget_connection(oldest.generation);
        }
    }
}

impl Handler<ConnectionEnded> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ended: ConnectionEnded, ctx: &mut Self::Context) {
        if self.connection(ended.generation).is_none() {
            self.events.emit(StaleDropped { what: "end of a connection" });
        }
        self.after_connection(ended.generation, ended.exit, ctx);
    }
}

impl Handler<HandoverAnnounced> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, announced: HandoverAnnounced, ctx: &mut Self::Context) {
        let HandoverAnnounced { generation, deadline } = announced;
        let Some(connections) = self.of(generation.coordinator) else { return };
        let current = connections.current.as_mut();
        let Some(current) = current.filter(|it| it.generation == generation && !it.is_handed_over) else { return };
        current.is_handed_over = true;
        connections.reconnect = Reconnect::default();
        let wait = connections.handover_wait(Instant::now());
        // No more than two connections exist at any time.
        let older = connections.older.as_ref().map(|older| older.generation);
        self.events.emit(HandoverBegun { generation, deadline });
        if let Some(older) = older {
            self.close_handed_over(older);
        }
        ctx.run_later(deadline, move |supervisor, _| supervisor.close_handed_over(generation));
        if wait.is_zero() {
            self.start_connection(generation.coordinator, ctx);
        } else {
            self.dial_in(wait, generation.coordinator, ctx);
        }
    }
}
