//! A scripted coordinator over TCP, with a scripted agent at the other end.

use outpost::messages::wire::FromAgent;
use outpost::testkit::{AgentEvent, LinkFault, ScriptedAgent, ScriptedCoordinator, agent_key};

/// Connects an agent, and takes both ends through the handshake.
async fn connected() -> (ScriptedAgent, outpost::testkit::CoordinatorLink, ScriptedCoordinator) {
    let mut coordinator = ScriptedCoordinator::listen().await.unwrap();
    let url = coordinator.url();
    let agent = async {
        let (mut agent, nonce) = ScriptedAgent::dial(&url, agent_key(1)).await;
        let mut response = agent.response(&nonce, None);
        response.agent_version = env!("CARGO_PKG_VERSION").into();
        agent.send(&FromAgent::AuthResponse(response)).await;
        agent.frame().await;
        agent
    };
    let (agent, link) = tokio::join!(agent, coordinator.welcome());
    (agent, link, coordinator)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_hang_up_ends_the_stream_of_the_agent() {
    let (mut agent, mut link, _coordinator) = connected().await;
    link.fail(LinkFault::HangUp);
    assert_eq!(agent.event().await, AgentEvent::Eof);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_close_reaches_the_agent() {
    let (mut agent, link, _coordinator) = connected().await;
    link.close(Some(1001), "drain:deploy");
    assert_eq!(agent.event().await, AgentEvent::Close(Some((1001, "drain:deploy".into()))));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_reset_ends_the_stream_of_the_agent() {
    let (mut agent, mut link, _coordinator) = connected().await;
    link.fail(LinkFault::Reset);
    drop(link);
    assert_eq!(agent.event().await, AgentEvent::Eof);
}
