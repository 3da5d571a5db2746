//! The operator's pause: kept in a file, so that it survives a restart, and ended by itself at its time.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use actix::Recipient;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::messages::lifecycle::SetPaused;
use crate::status::write_private;
use crate::telemetry::Events;
use crate::telemetry::events::{AgentPaused, AgentUnpaused};

/// The longest wait before the clock is read again: it may have been set.
const CLOCK: Duration = Duration::from_secs(30);
/// What the file says of a pause without an end.
const ENDLESS: &str = "until it is ended";

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    /// When it ends by itself.
    until: Option<SystemTime>,
}

/// Pauses an agent. Cheap to clone, for any thread.
#[derive(Clone)]
pub(crate) struct PauseSwitch(Arc<Shared>);

struct Shared {
    file: PathBuf,
    agent: Recipient<SetPaused>,
    events: Events,
    pause: Mutex<Option<Pause>>,
    changed: Notify,
}

impl PauseSwitch {
    /// A switch that keeps its state in this file, which may hold a pause already.
    pub(crate) fn open(file: PathBuf, agent: Recipient<SetPaused>, events: Events) -> Self {
        let stored = read(&file);
        let shared = Shared { file, agent, events, pause: Mutex::default(), changed: Notify::new() };
        let switch = Self(Arc::new(shared));
        if let Some(pause) = stored {
            switch.set(Some(pause));
        }
        switch
    }

    /// Pauses, for a time or until [`Self::resume`]. An error: it could not be stored, and nothing has changed.
    pub(crate) fn pause(&self, time: Option<Duration>) -> io::Result<()> {
        let pause = Pause { until: time.and_then(|time| SystemTime::now().checked_add(time)) };
        store(&self.0.file, pause)?;
        self.set(Some(pause));
        Ok(())
    }

    /// Ends the pause. An error: that could not be stored, and nothing has changed.
    pub(crate) fn resume(&self) -> io::Result<()> {
        match fs::remove_file(&self.0.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.set(None);
        Ok(())
    }

    /// Ends pauses at their times.
    pub(crate) async fn run(&self) -> Infallible {
        loop {
            let until = self.pause_now().and_then(|pause| pause.until);
            match until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default()) {
                None => self.0.changed.notified().await,
                Some(Duration::ZERO) => {
                    if let Err(cause) = self.resume() {
                        // It is over all the same: the file says until when it lasted.
                        log::warn!(target: "outpost::agent", cause:%; "the file of a pause that is over can't be removed");
                        self.set(None);
                    }
                }
                Some(left) => tokio::select! {
                    () = sleep(left.min(CLOCK)) => {}
                    () = self.0.changed.notified() => {}
                },
            }
        }
    }

    fn pause_now(&self) -> Option<Pause> {
        *self.0.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, pause: Option<Pause>) {
        let before = std::mem::replace(&mut *self.0.pause.lock().unwrap_or_else(PoisonError::into_inner), pause);
        if before == pause {
            return;
        }
        match pause {
            Some(Pause { until }) => self.0.events.emit(AgentPaused { until }),
            None => self.0.events.emit(AgentUnpaused),
        }
        self.0.agent.do_send(SetPaused(pause.is_some()));
        self.0.changed.notify_one();
    }
}

/// The pause in a file. None that is over. A file that can't be read is a pause without an end: an agent must not work against
/// the will of its operator.
fn read(file: &Path) -> Option<Pause> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => String::new(),
    };
    let until = humantime::parse_rfc3339(text.trim()).ok();
    if until.is_some_and(|until| until <= SystemTime::now()) { None } else { Some(Pause { until }) }
}

/// Writes the file in one step.
fn store(file: &Path, pause: Pause) -> io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".tmp");
    let text =
        pause.until.map_or_else(|| ENDLESS.to_owned(), |until| humantime::format_rfc3339_millis(until).to_string());
    write_private(draft.as_ref(), &text)?;
    fs::rename(&draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause");
        assert_eq!(read(&file), None);
        let endless = Pause { until: None };
        store(&file, endless).unwrap();
        assert_eq!(read(&file), Some(endless));
        let until = humantime::parse_rfc3339("2999-01-02T03:04:05.678Z").unwrap();
        store(&file, Pause { until: Some(until) }).unwrap();
        assert_eq!(read(&file), Some(Pause { until: Some(until) }));
        store(&file, Pause { until: Some(SystemTime::UNIX_EPOCH) }).unwrap();
        assert_eq!(read(&file), None, "it is over");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_a_pause() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause");
        for text in ["", "tomorrow", "\u{0}"] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file), Some(Pause { until: None }), "{text:?}");
        }
    }
}
