//! With the extension `auth2` the agent signs a statement that names its coordinator. So a coordinator can not pass the challenge
//! of another one on to it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outpost::messages::wire::{AuthResponse, Extension, Extensions, FromAgent, FromCoordinator};
use outpost::testkit::events::ConnectFailure;
use outpost::testkit::{
    AgentHosts, CoordinatorConfig, CoordinatorLink, Event, HandshakeFailure, Harness, RealCoordinator, ScriptedAgent,
    World, agent_key,
};

fn auth2() -> Extensions {
    [Extension::Auth2].into_iter().collect()
}

/// Why a try to connect failed.
fn failed(event: &Event) -> Option<ConnectFailure> {
    match event {
        Event::ConnectFailed(failed) => Some(failed.cause.clone()),
        _ => None,
    }
}

/// The real coordinator, which knows itself by its address.
fn real() -> CoordinatorConfig {
    CoordinatorConfig { agent_hosts: AgentHosts::OwnAddress, ..RealCoordinator::config() }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_connection_signs_a_statement_with_random_bytes_of_its_own() {
    let mut harness = Harness::builder().start();
    harness.coordinator.offer(auth2());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut link = harness.coordinator.next_connection().await;
        // Verifies that the signature is of the statement with the coordinator's name.
        let response = link.welcome().await;
        assert_eq!(response.extensions, auth2());
        let client_nonce = STANDARD.decode(response.client_nonce.unwrap()).unwrap();
        assert_eq!(client_nonce.len(), 32);
        assert!(!seen.contains(&client_nonce));
        seen.push(client_nonce);
        link.capabilities().await;
    }
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_requires_it_sends_nothing_to_a_coordinator_that_does_not_offer_it_and_tries_again() {
    let mut harness = Harness::builder().settings(|settings| settings.requires_auth2 = true).start();
    for offer in [Extensions::NONE, Extensions::all().without(Extension::Auth2)] {
        harness.coordinator.offer(offer);
        let mut link = harness.coordinator.next_connection().await;
        link.challenge();
        assert_eq!(link.ended().await, Some((Some(1002), String::new())));
        assert!(link.unread_messages().is_empty(), "nothing is signed");
        assert_eq!(harness.event(failed).await, HandshakeFailure::Auth2NotOffered.into());
    }
    let waits: Vec<Duration> = harness
        .events()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Retrying(retrying) => Some(retrying.wait),
            _ => None,
        })
        .collect();
    let [first, second] = waits[..] else { panic!("{waits:?}") };
    assert!((800..1200).contains(&first.as_millis()) && (1600..2400).contains(&second.as_millis()), "{waits:?}");
    assert_eq!(harness.snapshot().failures, 2);
    harness.coordinator.offer(auth2());
    assert!(harness.coordinator.welcome().await.capabilities().await.models.is_empty());
    harness.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_real_coordinator_admits_an_agent_that_requires_it() {
    let mut world = World::builder()
        .real_coordinator(real())
        .agent(0, Harness::builder().settings(|settings| settings.requires_auth2 = true))
        .start();
    let connected = |event: &Event| match event {
        Event::Connected(connected) => Some(connected.extensions),
        _ => None,
    };
    assert!(world.agents[0].event(connected).await.contains(Extension::Auth2));
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_passes_on_the_challenge_of_another_one_gets_a_signature_that_is_refused_there() {
    let mut world =
        World::builder().scripted_coordinators(1).real_coordinator(real()).agent(0, Harness::builder()).start();
    let url = world.real(1).agent_url();
    // In the middle: an agent towards the real coordinator, a coordinator with a name of its own towards the agent.
    let (mut upstream, nonce) = ScriptedAgent::dial(&url, agent_key(1)).await;
    world.scripted(0).offer(upstream.offered);
    let mut link = world.scripted(0).next_connection().await;
    link.challenge_with(&nonce);
    // Verifies that the statement names the one in the middle.
    let response = link.expect_auth().await;
    assert!(response.extensions.contains(Extension::Auth2));
    upstream.send(&FromAgent::AuthResponse(response)).await;
    let verdict = upstream.frame().await;
    assert!(matches!(verdict, FromCoordinator::AuthFailed { reason: Some(_) }), "{verdict:?}");
    link.send(&verdict);
    let cause = world.agents[0].event(failed).await;
    let is_refusal = |cause: &HandshakeFailure| matches!(cause, HandshakeFailure::Rejected { .. });
    assert!(matches!(&cause, ConnectFailure::Handshake(cause) if is_refusal(cause)), "{cause:?}");
    world.stop().await;
}

/// One in the middle that takes the offer out of the challenge of the real coordinator.
async fn hidden_offer(requires_auth2: bool) -> (World, ScriptedAgent, CoordinatorLink) {
    let agent = Harness::builder().settings(|settings| settings.requires_auth2 = requires_auth2);
    let mut world = World::builder().scripted_coordinators(1).real_coordinator(real()).agent(0, agent).start();
    let url = world.real(1).agent_url();
    let (upstream, nonce) = ScriptedAgent::dial(&url, agent_key(1)).await;
    let mut link = world.scripted(0).next_connection().await;
    link.challenge_with(&nonce);
    (world, upstream, link)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn one_in_the_middle_that_hides_the_offer_gets_nothing_from_an_agent_that_requires_it() {
    let (mut world, upstream, mut link) = hidden_offer(true).await;
    assert_eq!(link.ended().await, Some((Some(1002), String::new())));
    assert!(link.unread_messages().is_empty());
    assert_eq!(world.agents[0].event(failed).await, HandshakeFailure::Auth2NotOffered.into());
    drop(upstream);
    world.stop().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_signature_of_the_bare_nonce_can_not_be_passed_off_as_a_statement() {
    let (world, mut upstream, mut link) = hidden_offer(false).await;
    let response = link.expect_auth().await;
    assert_eq!(response.client_nonce, None);
    let claimed = AuthResponse { extensions: auth2(), client_nonce: Some(STANDARD.encode([7; 32])), ..response };
    upstream.send(&FromAgent::AuthResponse(claimed)).await;
    let verdict = upstream.frame().await;
    assert!(matches!(verdict, FromCoordinator::AuthFailed { .. }), "{verdict:?}");
    world.stop().await;
}
