//! Clean shutdown: accept no new jobs, wait for the running ones, close the connection, end.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::links::{Connection, Connections};
use super::{Draining, Exit, SupervisorActor};
use crate::messages::lifecycle::{Drain, EndJobs, StillRunning, Stop, StopAdmitting};
use crate::telemetry::events::{self, DrainCutShort, DrainProgress, Stopped};

/// How often a drain reports its progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long the last frames and the close may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl SupervisorActor {
    /// Closes the connection after the last job, or ends if there is none to close.
    pub(super) fn close_when_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.closing && drain.in_flight == Some(0)) else {
            return;
        };
        drain.closing = true;
        // No job waits to go on there.
        self.stop_dialling(|_| true);
        let outboxes = self.connections().filter_map(|connection| connection.outbox());
        let closing = outboxes.filter(|outbox| outbox.close(1000, "").is_ok()).count();
        if closing == 0 {
            return self.finish(Exit::Drained, ctx);
        }
        ctx.run_later(CLOSE_LIMIT, |supervisor, ctx| supervisor.finish(Exit::Drained, ctx));
    }

    /// Gives up the connections that are being made, of these coordinators.
    fn stop_dialling(&mut self, of: impl Fn(&Connections) -> bool) {
        let coordinators = self.coordinators.iter_mut().filter(|connections| of(connections));
        let dialled: Vec<Connection> = coordinators.filter_map(|connections| connections.next.take()).collect();
        for connection in dialled {
            connection.stop();
            // It may have come up in this very moment, and the router have heard of that first.
            self.forget_connection(connection.generation);
        }
    }

    /// Ends what still runs, and soon after that everything, even if the coordinator does not take the last frames.
    pub(super) fn end_jobs(&mut self, ctx: &mut Context<Self>) {
        let (Some(drain), Some(router)) = (&mut self.drain, &self.router) else { return };
        match drain.in_flight {
            None => drain.hurry = true,
            Some(0) => {}
            Some(in_flight) => {
                self.events.emit(DrainCutShort { in_flight });
                router.do_send(EndJobs);
                ctx.run_later(CLOSE_LIMIT, |supervisor, ctx| supervisor.finish(Exit::Drained, ctx));
            }
        }
    }

    pub(super) fn finish(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        let Some(done) = self.done.take() else { return };
        // Nothing that ends from here on is replaced.
        self.living.clear();
        self.connections().for_each(|connection| connection.stop());
        self.coordinators.clear();
        if let Some(router) = self.router.take() {
            router.do_send(Stop);
        }
        if let Some(discovery) = self.discovery.take() {
            discovery.do_send(Stop);
        }
        for (_, pool) in self.pools.drain() {
            pool.addr.do_send(Stop);
        }
        if exit == Exit::Drained {
            self.events.emit(Stopped);
        }
        // The receiver is gone only if its owner does not need the result.
        let _ = done.send(exit);
        ctx.stop();
    }
}

impl Handler<Drain> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        if self.drain.is_some() {
            return self.end_jobs(ctx);
        }
        let grace = self.settings.shutdown_grace;
        self.drain = Some(Draining { until: Instant::now() + grace, in_flight: None, hurry: false, closing: false });
        match &self.router {
            Some(router) => router.do_send(StopAdmitting),
            None => return self.finish(Exit::Drained, ctx),
        }
        // A connection that is being made is not waited for, unless jobs wait to go on there.
        self.stop_dialling(|connections| !connections.is_resumable);
        ctx.run_later(grace, |supervisor, ctx| supervisor.end_jobs(ctx));
        ctx.run_interval(PROGRESS, |supervisor, _| {
            let Some(drain) = &supervisor.drain else { return };
            if let Some(in_flight @ 1..) = drain.in_flight {
                let left = drain.until.saturating_duration_since(Instant::now());
                supervisor.events.emit(DrainProgress { in_flight, left });
            }
        });
    }
}

impl Handler<StillRunning> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, still: StillRunning, ctx: &mut Self::Context) {
        let Some(drain) = &mut self.drain else { return };
        if drain.in_flight.is_none() {
            self.events.emit(events::Draining { in_flight: still.in_flight, grace: self.settings.shutdown_grace });
        }
        drain.in_flight = Some(still.in_flight);
        if std::mem::take(&mut drain.hurry) {
            self.end_jobs(ctx);
        }
        self.close_when_idle(ctx);
    }
}
