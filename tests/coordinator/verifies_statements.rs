//! With the extension `auth2` the coordinator admits an agent only if its signature names this coordinator.

use std::net::SocketAddr;

use ed25519_dalek::SigningKey;
use outpost::messages::wire::{AuthOk, Extension, Extensions, FromAgent, FromCoordinator};
use outpost::testkit::{AgentEvent, AgentHosts, ScriptedAgent, agent_key};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::fixture::{Answer, Coordinator, provider_id};

/// A coordinator with these names.
async fn named(names: &[&str]) -> Coordinator {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    Coordinator::start_with(|config| config.agent_hosts = AgentHosts::Named(names)).await
}

/// A coordinator that knows itself by its address.
async fn own_address() -> Coordinator {
    Coordinator::start_with(|config| config.agent_hosts = AgentHosts::OwnAddress).await
}

/// Answers the challenge at a URL with a statement that names this coordinator, else the one in the URL.
async fn answer(url: &str, key: SigningKey, coordinator: Option<&str>) -> ScriptedAgent {
    let (mut agent, nonce) = ScriptedAgent::dial(url, key).await;
    assert!(agent.offered.contains(Extension::Auth2));
    if let Some(coordinator) = coordinator {
        agent.coordinator = coordinator.to_owned();
    }
    let response = agent.response_with(&nonce, Extensions::without_resume());
    agent.send(&FromAgent::AuthResponse(response)).await;
    agent
}

async fn is_admitted(mut agent: ScriptedAgent) {
    let provider_id = Some(provider_id(&agent.key));
    assert_eq!(agent.frame().await, FromCoordinator::AuthOk(AuthOk { provider_id, ..AuthOk::default() }));
}

async fn is_refused(mut agent: ScriptedAgent) {
    let FromCoordinator::AuthFailed { reason: Some(reason) } = agent.frame().await else { panic!("not refused") };
    assert!(reason.contains("OUTPOST_COORDINATOR_HOSTS"), "{reason}");
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1008, "auth failed".into()))));
}

/// Passes all bytes on to a coordinator and back, under an address of its own. Returns the URL for agents.
async fn relay_to(coordinator: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/agent", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        while let Ok((mut agent, _)) = listener.accept().await {
            actix_rt::spawn(async move {
                let mut upstream = TcpStream::connect(coordinator).await.unwrap();
                // Either side may end the connection in any way.
                let _ = copy_bidirectional(&mut agent, &mut upstream).await;
            });
        }
    });
    url
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_without_names_does_not_offer_it() {
    let coordinator = Coordinator::start().await;
    let (agent, _) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    assert_eq!(agent.offered, Extensions::all().without(Extension::Auth2));
    // Nor does it accept it: the bare nonce counts.
    let (mut agent, nonce) = ScriptedAgent::dial(coordinator.agent_url(), agent_key(1)).await;
    agent.offered = Extensions::all();
    let response = agent.response_with(&nonce, Extensions::without_resume());
    agent.send(&FromAgent::AuthResponse(response)).await;
    assert!(matches!(agent.frame().await, FromCoordinator::AuthFailed { .. }));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_of_its_names_admits_and_no_other_does() {
    let coordinator = named(&["Coordinator.Example:443", "[::1]:7700"]).await;
    let url = coordinator.agent_url();
    for name in ["coordinator.example:443", "[::1]:7700"] {
        is_admitted(answer(url, agent_key(1), Some(name)).await).await;
    }
    for name in ["coordinator.example:80", "coordinator.example", "Coordinator.Example:443", ""] {
        is_refused(answer(url, agent_key(1), Some(name)).await).await;
    }
    // The address where the agent really reaches it, and which its request names, is not one of them.
    is_refused(answer(url, agent_key(1), None).await).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_leaves_the_offer_proves_its_key_as_before() {
    let coordinator = own_address().await;
    let agent = ScriptedAgent::agree(coordinator.agent_url(), 1, &[Extension::Sizes]).await;
    assert!(agent.offered.contains(Extension::Auth2));
    let extensions = Answer::of(coordinator.get("/api/agents"), "").await.json()[0]["extensions"].clone();
    assert_eq!(extensions, serde_json::json!(["sizes"]));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_relay_with_a_name_of_its_own_is_refused_whichever_coordinator_it_passes_the_challenge_of() {
    let (one, other) = (own_address().await, own_address().await);
    for (coordinator, elsewhere) in [(&one, &other), (&other, &one)] {
        let relay = relay_to(coordinator.addr()).await;
        is_admitted(answer(coordinator.agent_url(), agent_key(1), None).await).await;
        // An agent of the relay, and one of another coordinator that uses the relay.
        is_refused(answer(&relay, agent_key(2), None).await).await;
        let name = elsewhere.addr().to_string();
        is_refused(answer(&relay, agent_key(2), Some(&name)).await).await;
        // All that stands in its way is the name.
        let name = coordinator.addr().to_string();
        is_admitted(answer(&relay, agent_key(3), Some(&name)).await).await;
    }
}
