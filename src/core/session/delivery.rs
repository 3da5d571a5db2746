//! How far the response of a job has come on its way to the coordinator: the agent's end and the coordinator's end.
//!
//! ```text
//! agent        acknowledged <= written <= produced
//! coordinator                  taken over <= received
//! ```
//!
//! In the base protocol what is written counts as acknowledged, and the agent forgets it. With the extension `resume` the
//! agent keeps a response from the acknowledged byte on, and its terminal frame until that was acknowledged too, so that a
//! later connection can go on where the coordinator wants. Neither end holds bytes here: [`Delivery`] and [`Receipt`] decide
//! from offsets alone.
//!
//! Invariants, which each change asserts in debug builds:
//!
//! - DELIVERY-1: `acknowledged <= written <= produced`.
//! - DELIVERY-2: the terminal frame is due only behind all bytes.
//! - RECEIPT-1: `taken <= received`, and `acknowledged <= taken`.

/// How far one response has come, as the agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    /// Whether bytes are kept until they are acknowledged.
    keeps: bool,
    produced: u64,
    written: u64,
    acknowledged: u64,
    terminal: Terminal,
    /// Whether the terminal frame was written to this connection or an earlier one.
    terminal_was_written: bool,
}

/// The state of a job's terminal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Terminal {
    /// The response goes on.
    None,
    /// It is to be written behind the bytes.
    Waiting,
    /// It was written to the connection that exists now.
    Written,
}

/// The coordinator wants a response from an offset that the agent does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator wants a part of the response that the agent does not have")]
pub(crate) struct NotKept;

impl Delivery {
    /// A response without a byte. `keeps`: what is written is kept until it is acknowledged.
    pub(crate) fn new(keeps: bool) -> Self {
        Self { keeps, produced: 0, written: 0, acknowledged: 0, terminal: Terminal::None, terminal_was_written: false }
    }

    /// Whether bytes are kept until they are acknowledged.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Bytes produced.
    pub(crate) fn produced(&self) -> u64 {
        self.produced
    }

    /// Bytes written: the offset of the next chunk.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The first byte that is kept.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes produced that are not written.
    pub(crate) fn unwritten(&self) -> u64 {
        self.produced - self.written
    }

    /// The backend produced bytes.
    pub(crate) fn produce(&mut self, bytes: u64) {
        self.produced += bytes;
        self.check();
    }

    /// The response has ended: its terminal frame waits. The first call counts.
    pub(crate) fn end(&mut self) {
        if self.terminal == Terminal::None {
            self.terminal = Terminal::Waiting;
        }
        self.check();
    }

    /// Whether the terminal frame is the next to be written.
    pub(crate) fn terminal_is_due(&self) -> bool {
        self.terminal == Terminal::Waiting && self.unwritten() == 0
    }

    /// A chunk of so many bytes was written. Returns how many bytes need no longer be kept.
    pub(crate) fn wrote(&mut self, bytes: u64) -> u64 {
        self.written += bytes;
        if !self.keeps {
            self.acknowledged = self.written;
        }
        self.check();
        if self.keeps { 0 } else { bytes }
    }

    /// The terminal frame was written.
    pub(crate) fn wrote_terminal(&mut self) {
        (self.terminal, self.terminal_was_written) = (Terminal::Written, true);
        self.check();
    }

    /// The coordinator has taken over all bytes before `offset`. Returns how many more bytes need no longer be kept: none if
    /// it acknowledges less than before, or more than was written.
    pub(crate) fn acknowledge(&mut self, offset: u64) -> u64 {
        if !self.keeps || offset <= self.acknowledged || offset > self.written {
            return 0;
        }
        let freed = offset - self.acknowledged;
        self.acknowledged = offset;
        self.check();
        freed
    }

    /// Whether the coordinator may acknowledge the terminal frame: it was written.
    pub(crate) fn may_be_forgotten(&self) -> bool {
        self.keeps && self.terminal_was_written
    }

    /// A new connection goes on from `offset`. An error, and nothing changes, if a byte behind it was acknowledged, or if it is
    /// beyond what was produced.
    pub(crate) fn resume(&mut self, offset: u64) -> Result<(), NotKept> {
        if offset < self.acknowledged || offset > self.produced {
            return Err(NotKept);
        }
        self.written = offset;
        if self.terminal == Terminal::Written {
            self.terminal = Terminal::Waiting;
        }
        self.check();
        Ok(())
    }

    /// Gives up the bytes: only the terminal frame is still to be sent.
    pub(crate) fn give_up(&mut self) {
        (self.written, self.acknowledged) = (self.produced, self.produced);
        if self.terminal == Terminal::Written {
            self.terminal = Terminal::Waiting;
        }
        self.check();
    }

    /// Gives up everything: nothing more is sent.
    pub(crate) fn cancel(&mut self) {
        (self.written, self.acknowledged) = (self.produced, self.produced);
        self.terminal = Terminal::Written;
        self.check();
    }

    fn check(&self) {
        debug_assert!(self.acknowledged <= self.written && self.written <= self.produced, "DELIVERY-1: {self:?}");
        debug_assert!(self.terminal != Terminal::Written || self.unwritten() == 0, "DELIVERY-2: {self:?}");
    }
}

/// How far one response has come, as the coordinator knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Receipt {
    received: u64,
    taken: u64,
    acknowledged: u64,
}

/// A chunk begins behind the bytes that were received: the response has a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk leaves a gap")]
pub(crate) struct Gap;

impl Receipt {
    /// Bytes received: where the agent is to go on after a resumption.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// A chunk of `bytes` bytes came that begins at `offset`. Returns how many of its first bytes came before.
    pub(crate) fn receive(&mut self, offset: u64, bytes: u64) -> Result<u64, Gap> {
        if offset > self.received {
            return Err(Gap);
        }
        let before = (self.received - offset).min(bytes);
        self.received += bytes - before;
        self.check();
        Ok(before)
    }

    /// The client took over bytes.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.taken += bytes;
        self.check();
    }

    /// Bytes that were received and are not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.received - self.acknowledged
    }

    /// The offset to acknowledge, if there is something new. It counts as acknowledged from now on.
    pub(crate) fn acknowledge(&mut self) -> Option<u64> {
        let is_new = self.taken > self.acknowledged;
        self.acknowledged = self.taken;
        self.check();
        is_new.then_some(self.taken)
    }

    /// The same for a new connection, if a byte was taken over at all: acknowledgements on the earlier one may not have
    /// arrived.
    pub(crate) fn acknowledge_again(&mut self) -> Option<u64> {
        self.acknowledged = self.taken;
        self.check();
        (self.taken > 0).then_some(self.taken)
    }

    fn check(&self) {
        debug_assert!(self.taken <= self.received && self.acknowledged <= self.taken, "RECEIPT-1: {self:?}");
    }
}

#[cfg(test)]
mod tests;
