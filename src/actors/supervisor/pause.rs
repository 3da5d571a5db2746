//! The operator's pause: kept here, so that a router that is started anew is paused too.

use actix::prelude::*;

use super::SupervisorActor;
use crate::messages::lifecycle::SetPaused;

impl Handler<SetPaused> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, paused: SetPaused, _: &mut Self::Context) {
        self.paused = paused.0;
        if let Some(router) = &self.router {
            router.do_send(paused);
        }
    }
}
