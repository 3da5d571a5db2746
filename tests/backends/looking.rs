//! A look at a scripted server, and what it saw in short.

use outpost::internals::configured;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::BackendId;
use outpost::testkit::{BackendKind, ProbeError, ProbeResult, Secret, Source, client_config};

use super::server::{Reply, Request, Server, within};

pub(crate) fn source(server: &Server, kind: BackendKind, key: Option<&str>) -> Box<dyn Source> {
    let tls = client_config(None).unwrap();
    configured::source(BackendId::from("mine"), kind, server.url(), key.map(Secret::new), tls)
}

pub(crate) async fn look(
    kind: BackendKind,
    script: impl Fn(&Request) -> Reply + 'static,
) -> Result<ProbeResult, ProbeError> {
    let server = Server::start(script).await;
    within(source(&server, kind, None).probe()).await
}

pub(crate) async fn error(kind: BackendKind, script: impl Fn(&Request) -> Reply + 'static) -> Option<ProbeError> {
    look(kind, script).await.err()
}

/// Models as (id, context window).
pub(crate) fn models(sighting: &ProbeResult) -> Vec<(&str, Option<u64>)> {
    sighting.report.models.iter().map(|model| (model.id.as_str(), model.context_window)).collect()
}

/// The endpoints of each model.
pub(crate) fn endpoints(sighting: &ProbeResult) -> Vec<Vec<Endpoint>> {
    sighting.report.models.iter().map(|model| model.endpoints.iter().collect()).collect()
}

/// Whether every model is said to have `/v1/messages`; none or all have it.
pub(crate) fn has_messages(sighting: &ProbeResult) -> bool {
    sighting.report.models.iter().all(|model| model.endpoints.contains(Endpoint::Messages))
}
