//! The client of a job: it checks each byte that it gets.

use bytes::Bytes;

use crate::coordinator::agents::workload::ClientSide;
use crate::coordinator::fleet::response_channel::{PushError, ResponseEnd};
use crate::core::fingerprint::Fingerprint;
use crate::messages::ids::JobId;
use crate::messages::wire::ResponseHead;

/// The byte at each offset of every response.
pub(super) static RESPONSE: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < 256 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    /// Bytes that it has got.
    pub(super) got: u64,
    /// Those of them that the coordinator does not know to be taken over.
    untold: u64,
    /// It has gone away.
    pub(super) is_gone: bool,
    /// It knows that the agent has no connection.
    waits: bool,
}

impl ClientSide for Client {
    fn mark_sent(&mut self) {}

    fn begin(&mut self, _: ResponseHead) {}

    fn push(&mut self, bytes: Bytes) -> Result<(), PushError> {
        if self.is_gone {
            return Err(PushError::Gone);
        }
        let (from, len) = (self.got as usize, bytes.len());
        assert_eq!(bytes, RESPONSE[from..from + len], "BYTES: a client gets bytes out of order, twice, or not at all");
        self.got += len as u64;
        self.untold += len as u64;
        Ok(())
    }

    fn newly_taken(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    fn is_abandoned(&self) -> bool {
        self.is_gone
    }

    fn set_waiting(&mut self, waiting: bool) {
        self.waits = waiting;
    }

    fn finish(self, _: ResponseEnd) {}
}

impl Client {
    /// Whether there is something to acknowledge.
    pub(super) fn has_taken(&self) -> bool {
        self.untold > 0
    }

    pub(super) fn add_to(&self, job: JobId, to: &mut Fingerprint<'_>) {
        // That it waits only makes it book another agent.
        let Self { got, untold, is_gone, waits: _ } = self;
        to.add_of(job, ("client", got, untold, is_gone));
    }
}
