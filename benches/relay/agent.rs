//! The agent's process: the built binary.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Process;

pub struct Agent {
    pub process: Process,
    /// Removed after the process has ended.
    _home: Option<tempfile::TempDir>,
}

impl Agent {
    /// Starts the built binary with these backends and a new identity.
    pub fn start(coordinator: SocketAddr, backends: &str, max_concurrent: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let agent = Self::start_at(home.path(), coordinator, backends, max_concurrent);
        Self { _home: Some(home), ..agent }
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
        Self { process: Process::new(child), _home: None }
    }
}
