//! Processes of the binary: started with nothing in their environment but what the test sets, known by what they say,
//! killed when dropped.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use outpost::testkit::ScriptedCoordinator;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::within;

const BINARY: &str = env!("CARGO_BIN_EXE_outpost");

/// A backend that refuses every connection.
pub(crate) const NO_BACKEND: &str = "openai=http://127.0.0.1:1";

/// A directory of its own for an agent's identity.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.path().join("identity.key")
    }

    pub(crate) fn provider(&self) -> PathBuf {
        self.0.path().join("identity.key.provider")
    }

    /// The names of the files of the identity, without the lock, which stays for good, and without those beside it.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let others = ["identity.key.lock", "identity.key.ledger", "identity.key.token"];
        names.retain(|name| !others.iter().any(|other| name.starts_with(other)));
        names.sort();
        names
    }
}

/// An agent of this coordinator, to be changed and started.
pub(crate) fn agent(coordinator: &ScriptedCoordinator, home: &Home, backends: &str) -> Setup {
    Setup::new(&["run"]).for_agent(coordinator, home, backends)
}

/// A command that is not started yet.
pub(crate) struct Setup(Command);

impl Setup {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        Self::of(command)
    }

    /// The same in a shell that has done something else before.
    pub(crate) fn after(prelude: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{prelude}; exec \"$0\" \"$@\""), BINARY]).args(arguments);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self(command)
    }

    pub(crate) fn for_agent(self, coordinator: &ScriptedCoordinator, home: &Home, backends: &str) -> Self {
        self.env("OUTPOST_COORDINATOR_URL", coordinator.url())
            .env("OUTPOST_IDENTITY_PATH", home.key())
            .env("OUTPOST_BACKENDS", backends)
            .env("OUTPOST_STATUS_ADDR", "127.0.0.1:0")
            // Without it, only root could read what these tests look at under /proc.
            .env("OUTPOST_ALLOW_DUMPS", "true")
            .env("OUTPOST_LOG", "debug")
    }

    /// A coordinator on a free port, which logs its events as JSON.
    pub(crate) fn coordinator() -> Self {
        Self::new(&["coordinator", "--listen", "127.0.0.1:0"]).env("OUTPOST_LOG_FORMAT", "json")
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn start(mut self) -> Outpost {
        let mut child = self.0.spawn().unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let stdout = listen(child.stdout.take().unwrap());
        let stderr = listen(child.stderr.take().unwrap());
        Outpost { child, pid, stdout, stderr }
    }

    /// Runs it to its end.
    pub(crate) async fn finish(self) -> Finished {
        self.start().finish().await
    }
}

/// A running process.
pub(crate) struct Outpost {
    child: Child,
    pub(crate) pid: Pid,
    stdout: watch::Receiver<String>,
    stderr: watch::Receiver<String>,
}

impl Outpost {
    /// Waits until its log has this, and returns the rest of that line.
    pub(crate) async fn logged(&mut self, text: &str) -> String {
        said(&mut self.stderr, text).await
    }

    /// Waits until its log, which is JSON, has an event with this field, and returns the event.
    pub(crate) async fn event_with(&mut self, field: &str) -> Value {
        let event = |log: &str| {
            let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.into_iter().find(|event| event.get(field).is_some())
        };
        let log = within(field, self.stderr.wait_for(|log| event(log).is_some())).await.map(|log| log.clone());
        let log = log.unwrap_or_else(|_| panic!("it ended without {field:?}:\n{}", *self.stderr.borrow()));
        event(&log).unwrap()
    }

    /// Waits until it has printed this, and returns the rest of that line.
    pub(crate) async fn printed(&mut self, text: &str) -> String {
        said(&mut self.stdout, text).await
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.borrow().clone()
    }

    /// What it printed so far.
    pub(crate) fn output(&self) -> String {
        self.stdout.borrow().clone()
    }

    /// Where a coordinator of [`Setup::coordinator`] listens.
    pub(crate) async fn coordinator_addr(&mut self) -> SocketAddr {
        self.event_with("addr").await["addr"].as_str().unwrap().parse().unwrap()
    }

    /// Where its status page is.
    pub(crate) async fn status_addr(&mut self) -> SocketAddr {
        let rest = self.logged("status page addr=http://").await;
        rest.strip_suffix('/').unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// How many files it has open.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).unwrap().count()
    }

    /// Waits for its end.
    pub(crate) async fn finish(mut self) -> Finished {
        let status = within("end of the process", self.child.wait()).await.unwrap();
        for said in [&mut self.stdout, &mut self.stderr] {
            within("end of its output", said.wait_for(|_| false)).await.unwrap_err();
        }
        Finished { status, stdout: self.output(), stderr: self.log() }
    }

    /// A line of `/proc/PID/status`, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

/// A process that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Its exit code; none where a signal ended it.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "signal {:?}\n{}", self.status.signal(), self.stderr);
    }
}

fn listen(pipe: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<String> {
    let (heard, said) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            heard.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
            line.clear();
        }
    });
    said
}

async fn said(pipe: &mut watch::Receiver<String>, text: &str) -> String {
    let found = |all: &String| all.lines().any(|line| line.contains(text));
    let heard = within(text, pipe.wait_for(found)).await.map(|all| rest(&all, text));
    heard.unwrap_or_else(|_| panic!("it ended without {text:?}:\n{}", *pipe.borrow()))
}

fn rest(all: &str, text: &str) -> String {
    all.lines().find_map(|line| line.split_once(text)).map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}
