//! The heartbeat of one connection: sends the router's figures every 15 s.

use std::time::Duration;

use actix::prelude::*;

use super::guard::Guard;
use crate::messages::lifecycle::Stop;
use crate::messages::load::SampleLoad;
use crate::messages::wire::FromAgent;
use crate::relay::outbox::Outbox;

/// The time between two heartbeats, and before the first one.
const EVERY: Duration = Duration::from_secs(15);

/// Sends heartbeats until it is stopped or its connection is gone.
pub(super) struct HeartbeatActor {
    pub(super) outbox: Outbox,
    pub(super) router: Recipient<SampleLoad>,
    pub(super) _guard: Guard,
}

impl Actor for HeartbeatActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EVERY, |actor, ctx| {
            let sample = actor.router.send(SampleLoad).into_actor(actor);
            ctx.spawn(sample.map(|load, actor, ctx| {
                let sent = load.ok().map(|load| actor.outbox.control(&FromAgent::Heartbeat(load)));
                // The router or the connection is gone: the supervisor starts another heartbeat with the next one.
                if !matches!(sent, Some(Ok(()))) {
                    ctx.stop();
                }
            }));
        });
    }
}

impl Handler<Stop> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
