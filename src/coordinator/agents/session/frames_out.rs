//! The frames to an admitted agent: its jobs, their cancels, and acknowledgements.
//!
//! With `resume` the coordinator acknowledges the bytes of a response that the client's side took over, so that a client that
//! reads slowly makes the agent hold back its backend. The client's side asks for an acknowledgement every 32 KiB
//! (`fleet/running_job`); a timer acknowledges the rest. The acknowledgement of a terminal frame is not
//! urgent: it is sent with the next job, which saves both ends a system call, or a little later.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::AsyncContext;

use super::{Admitted, Context, Session, Stage, send};
use crate::coordinator::agents::link::RunJob;
use crate::messages::ids::JobId;
use crate::messages::wire::{Extension, FromCoordinator, Taken};

/// How long a byte that was taken over may stay without an acknowledgement.
const LATEST_ACK: Duration = Duration::from_secs(1);
/// The same for a terminal frame.
const LATEST_FINAL_ACK: Duration = Duration::from_millis(5);
/// Terminal frames whose acknowledgements wait at most.
const MOST_FINAL_ACKS: usize = 64;

impl Session {
    pub(super) fn run(&mut self, ctx: &mut Context, job: RunJob) {
        self.unsent.fetch_sub(job.frame.len(), Ordering::Relaxed);
        // Otherwise the sender is dropped, which reports that the job was not sent.
        let Stage::Admitted(admitted) = &self.stage else { return };
        let RunJob { id, frame, sender } = job;
        // What the agent takes may have changed while the job was in the mailbox.
        if !self.state.accepts(admitted.id, frame.len()) {
            return;
        }
        if admitted.jobs.with(|jobs| jobs.begin(id, sender)).is_some() {
            // Before the job, which may have the id of one that has ended.
            self.acknowledge_ends(ctx);
            ctx.text(frame);
        }
    }

    pub(super) fn cancel(&mut self, ctx: &mut Context, job_id: JobId) {
        let Stage::Admitted(admitted) = &self.stage else { return };
        if admitted.jobs.with(|jobs| jobs.forget(job_id)) == Some(true) {
            send(ctx, &FromCoordinator::JobCancel { job_id });
        }
    }

    pub(super) fn hand_over(&mut self, ctx: &mut Context, deadline: Duration) {
        let Stage::Admitted(admitted) = &self.stage else { return };
        if admitted.agreed.contains(Extension::Handover) {
            send(ctx, &FromCoordinator::Handover { deadline: Some(deadline) });
        }
    }

    /// Acknowledges what the client of a job took over.
    pub(super) fn acknowledge(&mut self, ctx: &mut Context, job: JobId) {
        let Some(admitted) = self.resumable() else { return };
        if let Some(offset) = admitted.jobs.with(|jobs| jobs.acknowledge(job)).flatten() {
            send_ack(ctx, job, Taken::Bytes(offset));
        }
    }

    /// Acknowledges a terminal frame soon, also that of a job that was cancelled: the agent keeps it until then.
    pub(super) fn acknowledge_end(&mut self, ctx: &mut Context, admitted: &Admitted, job: JobId) {
        if !admitted.agreed.contains(Extension::Resume) || admitted.jobs.with(|_| ()).is_none() {
            return;
        }
        self.ended.push(job);
        if self.ended.len() >= MOST_FINAL_ACKS {
            self.acknowledge_ends(ctx);
        } else if !self.acknowledges_ends_later {
            self.acknowledges_ends_later = true;
            ctx.run_later(LATEST_FINAL_ACK, |session, ctx| {
                session.acknowledges_ends_later = false;
                session.acknowledge_ends(ctx);
            });
        }
    }

    /// Sends the acknowledgements of terminal frames that wait.
    pub(super) fn acknowledge_ends(&mut self, ctx: &mut Context) {
        for job in self.ended.drain(..) {
            send_ack(ctx, job, Taken::Terminal);
        }
    }

    /// Sends the last acknowledgement of each job of a session that goes on: it may not have arrived on the old connection.
    pub(super) fn acknowledge_again(&mut self, ctx: &mut Context) {
        let Some(admitted) = self.resumable() else { return };
        for (job, offset) in admitted.jobs.with(|jobs| jobs.acknowledge_again()).unwrap_or_default() {
            send_ack(ctx, job, Taken::Bytes(offset));
        }
        self.acknowledge_later(ctx, &admitted);
    }

    /// Makes sure that each byte is acknowledged soon after it was taken over.
    pub(super) fn acknowledge_later(&mut self, ctx: &mut Context, admitted: &Admitted) {
        let is_due = || admitted.jobs.with(|jobs| jobs.has_unacknowledged()) == Some(true);
        if self.acknowledges_later || !admitted.agreed.contains(Extension::Resume) || !is_due() {
            return;
        }
        self.acknowledges_later = true;
        ctx.run_later(LATEST_ACK, |session, ctx| {
            session.acknowledges_later = false;
            let Some(admitted) = session.resumable() else { return };
            for (job, offset) in admitted.jobs.with(|jobs| jobs.acknowledge_all()).unwrap_or_default() {
                send_ack(ctx, job, Taken::Bytes(offset));
            }
            session.acknowledge_later(ctx, &admitted);
        });
    }

    fn resumable(&self) -> Option<std::rc::Rc<Admitted>> {
        self.admitted().filter(|admitted| admitted.agreed.contains(Extension::Resume))
    }
}

fn send_ack(ctx: &mut Context, job_id: JobId, taken: Taken) {
    send(ctx, &FromCoordinator::Ack { job_id, taken });
}
