//! The agent's process: started, watched through /proc, killed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Agent {
    child: Child,
    /// Removed with the agent.
    home: Option<tempfile::TempDir>,
}

impl Agent {
    /// Starts the built binary with these backends and a new identity.
    pub fn start(coordinator: SocketAddr, backends: &str, max_concurrent: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let agent = Self::start_at(home.path(), coordinator, backends, max_concurrent);
        agent.keeping(home)
    }

    /// Starts the built binary with the identity at a place.
    pub fn start_at(home: &Path, coordinator: SocketAddr, backends: &str, max_concurrent: usize) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .env_clear()
            .env("OUTPOST_COORDINATOR_URL", format!("ws://{coordinator}/"))
            .env("OUTPOST_BACKENDS", backends)
            .env("OUTPOST_IDENTITY_PATH", home.join("key"))
            .env("OUTPOST_STATUS_ADDR", "off")
            .env("OUTPOST_MAX_CONCURRENT", max_concurrent.to_string())
            // Without it, only root could read the counters under /proc.
            .env("OUTPOST_ALLOW_DUMPS", "true")
            .env("OUTPOST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, home: None }
    }

    fn keeping(mut self, home: tempfile::TempDir) -> Self {
        self.home = Some(home);
        self
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Time on the processor of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.filter_map(|task| {
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// A field of /proc/PID/status: kilobytes as MiB, counts as they are.
    fn status(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The most memory it had at once, in MiB.
    pub fn peak(&self) -> f64 {
        self.status("VmHWM:") / 1024.0
    }

    /// The memory it has, in MiB.
    pub fn resident(&self) -> f64 {
        self.status("VmRSS:") / 1024.0
    }

    /// How often its threads gave up the processor by themselves, which an idle process does once a wake-up.
    pub fn wakeups(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let counts = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        counts.sum()
    }

    /// Lets the peak start again from what is in use now.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.home.take());
    }
}
