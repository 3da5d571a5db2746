//! The binary as a process, and what it writes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

use tokio::sync::watch;

use crate::waiting::within;

/// A running `outpost`. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: watch::Receiver<String>,
    output: watch::Receiver<String>,
}

impl Process {
    /// Starts it with these arguments and this environment, and no other.
    pub(crate) fn start<'a>(args: &[&str], env: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outpost"));
        command.args(args).env_clear().envs(env).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let log = collect(child.stderr.take().expect("a pipe"));
        let output = collect(child.stdout.take().expect("a pipe"));
        Self { child, log, output }
    }

    /// The address that follows `before` in the log, once it is there.
    pub(crate) async fn address(&mut self, before: &str) -> SocketAddr {
        let found = within(before, self.log.wait_for(|log| address_after(log, before).is_some())).await;
        let log = found.map(|log| log.clone()).unwrap_or_else(|_| panic!("it ended early: {}", *self.log.borrow()));
        address_after(&log, before).expect("it was just seen")
    }

    /// All it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Kills it in a way that it can't notice.
    pub(crate) fn kill(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end. What it wrote is its standard output.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, String) {
        for pipe in [&mut self.log, &mut self.output] {
            // An error says that the pipe is closed, which is what ends the wait.
            let _ = within("the end of the process", pipe.wait_for(|_| false)).await;
        }
        (self.child.wait().expect("its status"), self.output.borrow().clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a pipe line by line until it is closed.
fn collect(pipe: impl Read + Send + 'static) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            sender.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
    receiver
}

fn address_after(log: &str, before: &str) -> Option<SocketAddr> {
    let line = log.split_inclusive('\n').find_map(|line| line.split_once(before)?.1.strip_suffix('\n'))?;
    line.split('/').next()?.parse().ok()
}
