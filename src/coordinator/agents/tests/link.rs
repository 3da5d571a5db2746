//! A connection between the two ends: what is on its way, and how far each end is. Either end may notice first that it is cut.

use std::collections::VecDeque;

use super::client::Client;
use crate::coordinator::agents::workload::MissingJob;
use crate::coordinator::fleet::roster::SessionId;
use crate::core::fingerprint::Fingerprint;
use crate::core::session::handshake::SessionGrant;
use crate::messages::ids::{Generation, JobId, SessionName};
use crate::messages::wire::{Capabilities, ResumeRequest, Taken};

/// A frame of the agent.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Hello(Option<ResumeRequest>),
    Offer(Capabilities),
    Drain,
    /// Bytes from an offset on.
    Chunk(JobId, u64, u64),
    /// Behind so many bytes.
    Terminal(JobId, u64),
    Refused(JobId),
    Close,
}

/// A frame of the coordinator.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Welcome(Option<SessionGrant>),
    Job(JobId),
    Cancel(JobId),
    Ack(JobId, Taken),
    Handover,
    Close,
}

/// How far the agent's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AgentEnd {
    Dialling,
    Up,
    /// It closes behind what waits to be written.
    ClosesBehind,
    /// Its close frame is sent: nothing more is.
    Closing,
    Gone,
}

/// How far the coordinator's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CoordinatorEnd {
    Handshake,
    Admitted(SessionId),
    /// Frames are ignored.
    Gone,
}

/// A message to the actor of a connection at the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Command {
    Cancel(JobId),
    Close,
}

#[derive(Clone)]
pub(super) struct Link {
    pub(super) generation: Generation,
    pub(super) agent: AgentEnd,
    pub(super) coordinator: CoordinatorEnd,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<Down>,
    /// The coordinator's messages to itself.
    pub(super) commands: VecDeque<Command>,
    /// Jobs that the agent does not have, which end with its offer.
    pub(super) missing: Vec<MissingJob<Client>>,
    pub(super) is_handed_over: bool,
    /// Jobs whose terminal frame was written here and which the agent keeps.
    pub(super) ended: Vec<JobId>,
}

impl Link {
    pub(super) fn new(generation: Generation, request: Option<ResumeRequest>) -> Self {
        Self {
            generation,
            agent: AgentEnd::Dialling,
            coordinator: CoordinatorEnd::Handshake,
            up: VecDeque::from([Up::Hello(request)]),
            down: VecDeque::new(),
            commands: VecDeque::new(),
            missing: Vec::new(),
            is_handed_over: false,
            ended: Vec::new(),
        }
    }

    /// The jobs on their way.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.down.iter().filter_map(|frame| if let Down::Job(job) = frame { Some(*job) } else { None })
    }

    /// Drops the frames that no one will read.
    pub(super) fn drop_lost(&mut self) {
        if self.agent == AgentEnd::Gone {
            self.down.clear();
        }
        if self.coordinator == CoordinatorEnd::Gone {
            self.up.clear();
            self.ended.clear();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        (self.agent, self.coordinator) == (AgentEnd::Gone, CoordinatorEnd::Gone)
    }

    /// Whether one end has not noticed that the other is gone.
    pub(super) fn is_half_open(&self) -> bool {
        (self.agent == AgentEnd::Gone) != (self.coordinator == CoordinatorEnd::Gone)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.up.is_empty() && self.down.is_empty() && self.commands.is_empty() && self.missing.is_empty()
    }

    pub(super) fn add_to(&self, at: usize, to: &mut Fingerprint<'_>) {
        let Self { generation: _, agent, coordinator, up, down, commands, missing, is_handed_over, ended } = self;
        // There is at most one session on the roster, whose number is only compared.
        let is_admitted = matches!(coordinator, CoordinatorEnd::Admitted(_));
        let is_gone = *coordinator == CoordinatorEnd::Gone;
        to.add((agent, is_admitted, is_gone, is_handed_over, up.len(), down.len(), commands.len()));
        let named = |to: &Fingerprint<'_>, name: &SessionName| to.is_session(name);
        for (place, frame) in up.iter().enumerate() {
            let place = ("up", at, place);
            match frame {
                Up::Hello(None) => to.add((place, 0)),
                Up::Hello(Some(ResumeRequest { session, jobs })) => {
                    to.add((place, 1, named(to, session)));
                    jobs.iter().for_each(|job| to.add_of(job.job_id, (place, job.offset, job.ended)));
                }
                Up::Offer(offer) => to.add((place, 2, offer.models.first().map(|model| model.max_concurrent))),
                Up::Drain => to.add((place, 3)),
                Up::Chunk(job, offset, bytes) => to.add_of(*job, (place, offset, bytes)),
                Up::Terminal(job, bytes) => to.add_of(*job, (place, bytes)),
                Up::Refused(job) => to.add_of(*job, (place, 4)),
                Up::Close => to.add((place, 5)),
            }
        }
        for (place, frame) in down.iter().enumerate() {
            let place = ("down", at, place);
            match frame {
                Down::Welcome(grant) => {
                    to.add((place, grant.as_ref().map(|it| (named(to, &it.name), it.resumed.is_some()))));
                    let wanted = grant.iter().flat_map(|grant| &grant.resumed).flatten();
                    wanted.for_each(|job| to.add_of(job.job_id, (place, job.offset)));
                }
                Down::Job(job) => to.add_of(*job, (place, 0)),
                Down::Cancel(job) => to.add_of(*job, (place, 1)),
                Down::Ack(job, Taken::Bytes(offset)) => to.add_of(*job, (place, 2, offset)),
                Down::Ack(job, Taken::Terminal) => to.add_of(*job, (place, 3)),
                Down::Handover => to.add((place, 4)),
                Down::Close => to.add((place, 5)),
            }
        }
        for (place, command) in commands.iter().enumerate() {
            match command {
                Command::Cancel(job) => to.add_of(*job, ("command", at, place)),
                Command::Close => to.add(("command", at, place)),
            }
        }
        for missing in missing {
            let (end, client) = missing.parts();
            to.add_of(missing.job, ("is missing", at, format!("{end:?}")));
            client.add_to(missing.job, to);
        }
        ended.iter().for_each(|job| to.add_of(*job, ("has its end here", at)));
    }
}
