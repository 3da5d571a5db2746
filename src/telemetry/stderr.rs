//! Writing log lines without waiting for their reader.
//!
//! A terminal that was paused or a pipe that is not read must not delay a job. Lines go to a thread of their own
//! through a bounded queue; where that is full they are dropped, and their number is written when there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that may wait.
const QUEUE: usize = 4096;

/// What stands before the number of lines that were dropped.
const MISSED: &str = "log lines dropped, they were not read in time count=";

enum Item {
    Line(Vec<u8>),
    /// Everything before this is written.
    Flush(Sender<()>),
}

/// The end that takes lines. It never blocks.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_all(out, &items, &count))?;
        Ok(Self { queue, dropped })
    }

    /// Waits until what was logged before is written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let (done, written) = channel();
        // If the queue is full the log is not read: there is nothing to wait for.
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }
}

/// Takes one whole line a call, as env_logger writes them.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Item::Line(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(mut out: impl Write, items: &Receiver<Item>, dropped: &AtomicU64) {
    for item in items {
        // The agent goes on without a log that can't be written.
        let _ = match item {
            Item::Line(line) => out.write_all(&line),
            Item::Flush(done) => done.send(()).map_err(io::Error::other),
        };
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{MISSED}{lost}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;

    /// Writes what it may: each write waits for a permission.
    struct Gate(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // When no more permissions can come, everything may be written.
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_missed() {
        let (permit, permits) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut lines = Lines::start(Gate(permits, Arc::clone(&written))).unwrap();
        for number in 0..QUEUE + 100 {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        lines.flush(Duration::ZERO);
        drop(permit);
        loop {
            lines.flush(Duration::from_secs(60));
            let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
            let lost: u64 = text.lines().filter_map(|line| line.strip_prefix(MISSED)?.parse::<u64>().ok()).sum();
            let kept = text.lines().filter(|line| line.parse::<usize>().is_ok()).count() as u64;
            if kept + lost == (QUEUE + 100) as u64 {
                assert!(text.starts_with("0\n") && lost >= 99, "{lost}");
                return;
            }
        }
    }
}
