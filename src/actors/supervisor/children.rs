//! Starting the children, and starting them again.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::{ChildExited, Pool, SETTLE, SupervisorActor};
use crate::actors::discovery::{DiscoveryActor, DiscoverySetup};
use crate::actors::guard::Guard;
use crate::actors::heartbeat::HeartbeatActor;
use crate::actors::messages::RoutesChanged;
use crate::actors::pool::WorkerPool;
use crate::actors::router::{JobRouter, RouterSetup};
use crate::backends::BackendFactory;
use crate::core::formats::policy::RequestPolicy;
use crate::core::scheduling::catalog::Terms;
use crate::core::scheduling::router::RouterSettings;
use crate::messages::ids::Generation;
use crate::messages::lifecycle::{Child, SetPaused, Stop, StopAdmitting};
use crate::messages::wire::Limits;
use crate::messages::workers::PoolLost;
use crate::relay::outbox::Outbox;
use crate::telemetry::events::InternalEnd;

impl SupervisorActor {
    pub(super) fn guard(&mut self, child: Child, ctx: &Context<Self>) -> Guard {
        self.starts += 1;
        let start = self.starts;
        self.living.insert(child.clone(), start);
        let supervisor = ctx.address();
        Guard::new(&self.actor_count, move |_| supervisor.do_send(ChildExited { child, start }))
    }

    pub(super) fn start_discovery(&mut self, ctx: &mut Context<Self>) {
        let guard = self.guard(Child::Discovery, ctx);
        let setup = DiscoverySetup {
            sources: Rc::clone(&self.sources),
            policy: Rc::clone(&self.policy),
            terms: Terms {
                prices: self.settings.prices.clone(),
                max_concurrent: self.settings.limits.max_concurrent_total,
            },
            interval: self.settings.discovery_interval,
            events: self.events.clone(),
            supervisor: ctx.address().recipient(),
            loads: ctx.address().recipient(),
        };
        self.discovery = Some(DiscoveryActor::new(setup, guard).start());
    }

    pub(super) fn start_router(&mut self, ctx: &mut Context<Self>) {
        let guard = self.guard(Child::Router, ctx);
        let limits = Limits { max_message_bytes: Some(self.settings.max_message as u64), ..self.settings.limits };
        let setup = RouterSetup {
            settings: RouterSettings { limits, settle_at: (self.started + SETTLE).into_std() },
            events: self.events.clone(),
            discovery: ctx.address().recipient(),
            loads: ctx.address().recipient(),
            supervisor: ctx.address().recipient(),
        };
        let router = JobRouter::new(setup, guard).start();
        if self.drain.is_some() {
            router.do_send(StopAdmitting);
        }
        if self.paused {
            router.do_send(SetPaused(true));
        }
        self.router = Some(router);
        self.publish_routes();
    }

    pub(super) fn start_pool(&mut self, factory: &Arc<dyn BackendFactory>, ctx: &Context<Self>) {
        let backend = factory.id().clone();
        let guard = self.guard(Child::Pool(backend.clone()), ctx);
        let pool = WorkerPool::new(
            Arc::clone(factory),
            RequestPolicy::new(factory.kind(), self.settings.remote_media),
            Arc::clone(&self.arbiters),
            self.events.clone(),
            self.actor_count.clone(),
            guard,
        );
        self.pools.insert(backend, Pool { addr: pool.start(), factory: Arc::clone(factory) });
    }

    pub(super) fn start_heartbeat(&mut self, outbox: &Outbox, ctx: &Context<Self>) -> Option<Addr<HeartbeatActor>> {
        let router = self.router.clone()?.recipient();
        let guard = self.guard(Child::Heartbeat(outbox.generation()), ctx);
        Some(HeartbeatActor { outbox: outbox.clone(), router, _guard: guard }.start())
    }

    /// Gives the router the catalog and the pools behind it.
    pub(super) fn publish_routes(&self) {
        let (Some(changed), Some(router)) = (&self.catalog, &self.router) else { return };
        let pools = self.pools.iter().map(|(id, pool)| (id.clone(), pool.addr.clone().recipient())).collect();
        let catalog = Arc::clone(&changed.catalog);
        router.do_send(RoutesChanged { catalog, pools, complete: changed.complete });
    }

    pub(super) fn replace(&mut self, child: Child, ctx: &mut Context<Self>) {
        match child {
            Child::Discovery => self.start_discovery(ctx),
            Child::Router => {
                // Its ledger is gone, and every job with it; a connection without jobs is of no use.
                let lost: Vec<Generation> = self.connections().map(|connection| connection.generation).collect();
                self.connections().for_each(|connection| connection.addr.do_send(Stop));
                self.start_router(ctx);
                lost.into_iter().for_each(|it| self.give_up_connection(it, InternalEnd::RouterReplaced, ctx));
            }
            Child::Pool(backend) => {
                if let Some(router) = &self.router {
                    router.do_send(PoolLost { backend: backend.clone() });
                }
                if let Some(pool) = self.pools.remove(&backend) {
                    self.start_pool(&pool.factory, ctx);
                }
                self.publish_routes();
            }
            Child::Heartbeat(generation) => {
                let outbox = self.connection(generation).and_then(|connection| connection.outbox().cloned());
                let Some(outbox) = outbox else { return };
                let heartbeat = self.start_heartbeat(&outbox, ctx);
                if let Some(connection) = self.connection(generation) {
                    connection.up = heartbeat.map(|heartbeat| (outbox, heartbeat));
                }
            }
            Child::Connection(generation) => self.give_up_connection(generation, InternalEnd::ActorEnded, ctx),
        }
    }
}
