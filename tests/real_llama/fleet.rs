//! A coordinator and an agent, each a process of its own.

use std::time::Duration;

use outpost::testkit::Snapshot;
use serde_json::Value;
use tempfile::TempDir;

use crate::answer::MODEL;
use crate::client::Api;
use crate::llama::Llama;
use crate::process::Process;
use crate::waiting::eventually;

/// How long jobs outlive the connection of their agent.
pub(crate) const RESUME_WINDOW: Duration = Duration::from_secs(1);
/// How often the agents of these tests look at their backends.
pub(crate) const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// The two processes.
pub(crate) struct Fleet {
    pub(crate) coordinator: Process,
    pub(crate) agent: Process,
    /// The coordinator's.
    pub(crate) api: Api,
    status: Api,
    /// Holds the agent's key.
    _dir: TempDir,
}

impl Fleet {
    /// Starts both with more of the agent's environment, and returns when they listen.
    pub(crate) async fn start(backends: &str, more: &[(&str, &str)]) -> Self {
        Self::launch(None, backends, more).await
    }

    /// The same, with a coordinator whose clients need a key.
    pub(crate) async fn start_with_key(key: &'static str, backends: &str, more: &[(&str, &str)]) -> Self {
        Self::launch(Some(key), backends, more).await
    }

    async fn launch(api_key: Option<&'static str>, backends: &str, more: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = [("OUTPOST_LOG", "debug")];
        let window = format!("{}s", RESUME_WINDOW.as_secs());
        let window = [("OUTPOST_COORDINATOR_RESUME_WINDOW", window.as_str())];
        let client_key = api_key.map(|key| ("OUTPOST_COORDINATOR_API_KEY", key));
        let mut coordinator = Process::start(
            &["coordinator", "--listen", "127.0.0.1:0"],
            log.into_iter().chain(window).chain(client_key),
        );
        let address = coordinator.address(" addr=").await;
        let (url, key) = (format!("ws://{address}/agent"), dir.path().join("identity.key"));
        let interval = format!("{}s", DISCOVERY_INTERVAL.as_secs());
        let own = [
            ("OUTPOST_COORDINATOR_URL", url.as_str()),
            ("OUTPOST_IDENTITY_PATH", key.to_str().expect("text")),
            ("OUTPOST_STATUS_ADDR", "127.0.0.1:0"),
            ("OUTPOST_DISCOVERY_INTERVAL", &interval),
            ("OUTPOST_BACKENDS", backends),
        ];
        let mut agent = Process::start(&["run"], log.into_iter().chain(own).chain(more.iter().copied()));
        let status = Api::new(format!("http://{}", agent.address("status page addr=http://").await));
        let api = Api::new(format!("http://{address}"));
        let api = api_key.map_or(api.clone(), |key| api.with_key(key));
        Self { coordinator, agent, api, status, _dir: dir }
    }

    /// Starts both beside a server, and returns when its model is on offer.
    pub(crate) async fn beside(llama: &Llama) -> Self {
        let fleet = Self::start(&format!("llamacpp={}", llama.url), &[]).await;
        fleet.until_offered(1).await;
        fleet
    }

    /// The models that clients can ask for.
    pub(crate) async fn models(&self) -> Vec<Value> {
        let mut list: Value = self.api.get("/v1/models").await;
        serde_json::from_value(list["data"].take()).expect("a list")
    }

    /// Waits until clients can ask for so many models, and says how long that took.
    pub(crate) async fn until_offered(&self, models: usize) -> Duration {
        eventually("models on offer", async || (self.models().await.len() == models).then_some(())).await.1
    }

    /// The agent as the coordinator sees it; null before it is there.
    pub(crate) async fn agent(&self) -> Value {
        let mut agents: Vec<Value> = self.api.get("/api/agents").await;
        agents.pop().unwrap_or_default()
    }

    /// Waits until clients have so many slots of the model, and says how long that took.
    pub(crate) async fn until_slots(&self, slots: u32) -> Duration {
        let look = async || (self.agent().await["slots"][MODEL] == slots).then_some(());
        eventually("slots on offer", look).await.1
    }

    /// What the agent says of itself.
    pub(crate) async fn status(&self) -> Snapshot {
        self.status.get("/status").await
    }

    /// Waits until the agent says something of itself.
    pub(crate) async fn until_status(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let look = async || Some(self.status().await).filter(|status| holds(status));
        eventually(what, look).await.0
    }
}
