//! llama.cpp servers: the one that was started for all tests, and those of single tests.

use std::env;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::Api;
use crate::waiting::eventually;

/// A test's turn: no other test runs meanwhile, not even in another process. Ends when it is dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Turn {
    pub(crate) fn take() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real_llama.lock");
        let file = File::create(path).expect("a file to lock");
        file.lock().expect("a lock");
        Self(file)
    }
}

/// A running server.
pub(crate) struct Llama {
    pub(crate) url: String,
    pub(crate) api: Api,
    /// The process, if the test started it.
    own: Option<Pid>,
    /// After the process: it is killed first. Absent in a second server of a test.
    _turn: Option<Turn>,
}

impl Llama {
    /// The server that was started for all tests, with nothing to do.
    pub(crate) async fn given() -> Self {
        let url = env::var("OUTPOST_TEST_LLAMA_URL").expect("run this by scripts/real-model.sh");
        let given = Self { api: Api::new(&url), url, own: None, _turn: Some(Turn::take()) };
        given.until_idle().await;
        given
    }

    /// A server of this test's own on a free port.
    pub(crate) fn start(options: &[&str]) -> Self {
        let turn = Turn::take();
        Self::launch(free_port(), options, Some(turn))
    }

    /// One more beside this one, on a free port, in the same turn. This one has to live longer.
    pub(crate) fn another(&self, options: &[&str]) -> Self {
        Self::launch(free_port(), options, None)
    }

    /// One on a certain port, if that is free.
    pub(crate) fn start_on(port: u16, options: &[&str]) -> Option<Self> {
        let turn = Turn::take();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some(Self::launch(port, options, Some(turn)))
    }

    fn launch(port: u16, options: &[&str], turn: Option<Turn>) -> Self {
        let url = format!("http://127.0.0.1:{port}");
        Self { api: Api::new(&url), own: Some(launch(port, options)), url, _turn: turn }
    }

    /// Kills it in a way that it can't notice.
    pub(crate) fn kill(&mut self) {
        if let Some(pid) = self.own.take() {
            kill_process(pid, Signal::KILL).expect("it runs");
        }
    }

    /// Starts it once more, where it was.
    pub(crate) async fn start_again(&mut self, options: &[&str]) {
        let port = self.address().port();
        eventually("a free port", async || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).await;
        self.own = Some(launch(port, options));
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().expect("an address")
    }

    /// One of the server's own figures.
    pub(crate) async fn figure(&self, name: &str) -> u64 {
        let page = self.api.text("/metrics").await;
        let found =
            page.lines().find_map(|line| line.strip_prefix("llamacpp:")?.strip_prefix(name)?.trim().parse().ok());
        found.expect("a figure of that name")
    }

    /// How many slots are at work.
    pub(crate) async fn busy(&self) -> usize {
        let slots: Vec<Value> = self.api.get("/slots").await;
        slots.iter().filter(|slot| slot["is_processing"] == true).count()
    }

    pub(crate) async fn until_busy(&self, slots: usize) {
        eventually("busy slots", async || (self.busy().await == slots).then_some(())).await;
    }

    /// Waits until no slot is at work, and says how long that took.
    pub(crate) async fn until_idle(&self) -> Duration {
        eventually("idle slots", async || (self.busy().await == 0).then_some(())).await.1
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    free.expect("a port").port()
}

/// Returns when the server answers.
fn launch(port: u16, options: &[&str]) -> Pid {
    let dir = env::var("OUTPOST_TEST_LLAMA_DIR").expect("run this by scripts/real-model.sh");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/llama.sh");
    let (port, own) = (port.to_string(), std::process::id().to_string());
    let fixed = ["start", &dir, &port, "--while-pid", &own, "--temperature", "0"];
    let started = Command::new(script).args(fixed).args(options).output().expect("the script runs");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let pid = String::from_utf8(started.stdout).ok().and_then(|pid| pid.trim().parse().ok());
    pid.and_then(Pid::from_raw).expect("a pid")
}
