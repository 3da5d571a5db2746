//! A measured process, watched through /proc and killed when it is dropped.

use std::fs;
use std::process::Child;
use std::time::Duration;

pub struct Process(Child);

impl Process {
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap()
    }

    /// Time on the processor of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
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
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let counts = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        counts.sum()
    }

    /// Lets the peak start again from what is in use now.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5").unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
