//! Makes the parts of an agent from its configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use url::{Host, Url};

use crate::accounts;
use crate::actors::{Coordinator, PolicyOf, Settings};
use crate::backends::{Source, auto, configured};
use crate::config::{AgentConfig, BackendOptions, Backends, CoordinatorSite, LedgerConfig};
use crate::core::formats::policy::RemoteMedia;
use crate::core::scheduling::catalog::BackendPolicy;
use crate::identity::{Identity, IdentityError};
use crate::messages::backend::BackendKind;
use crate::messages::host_port::HostPort;
use crate::messages::ids::{BackendId, CoordinatorId};
use crate::messages::wire::Limits;
use crate::transport::dial::WebSocketConnector;
use crate::transport::tcp::ProxyTarget;

/// The places where backends may be, by configuration.
pub(crate) fn sources(backends: &Backends, tls: &Arc<ClientConfig>) -> Vec<Box<dyn Source>> {
    match backends {
        Backends::Auto(options) => {
            let key = |(kind, options): (&BackendKind, &BackendOptions)| Some((*kind, options.api_key.clone()?));
            auto::sources(&options.iter().filter_map(key).collect())
        }
        Backends::List(list) => list
            .iter()
            .map(|backend| {
                let (name, key) = (backend.name.clone(), backend.options.api_key.clone());
                configured::source(name, backend.kind, backend.base_url.clone(), key, Arc::clone(tls))
            })
            .collect(),
    }
}

/// The operator's settings for each backend.
pub(super) fn policy(backends: &Backends) -> PolicyOf {
    match backends {
        Backends::Auto(options) => {
            let by_kind: BTreeMap<BackendKind, BackendPolicy> =
                options.iter().map(|(kind, options)| (*kind, backend_policy(options, true))).collect();
            let other = backend_policy(&BackendOptions::default(), true);
            Rc::new(move |_: &BackendId, kind| by_kind.get(&kind).unwrap_or(&other).clone())
        }
        Backends::List(list) => {
            let by_name: BTreeMap<BackendId, BackendPolicy> = list
                .iter()
                .map(|backend| {
                    // A service is not the operator's own, even behind a proxy that is.
                    let local = !backend.kind.is_service() && is_local(&backend.base_url);
                    (backend.name.clone(), backend_policy(&backend.options, local))
                })
                .collect();
            Rc::new(move |name: &BackendId, _| by_name.get(name).cloned().unwrap_or_default())
        }
    }
}

fn backend_policy(options: &BackendOptions, local: bool) -> BackendPolicy {
    BackendPolicy {
        only: options.models.clone(),
        max_concurrent: options.max_concurrent,
        markup: options.markup,
        local,
    }
}

/// Whether a server is the operator's own: on this host, in a private network, or under a name without a domain.
fn is_local(url: &Url) -> bool {
    match url.host() {
        None => false,
        Some(Host::Domain(name)) => {
            !name.contains('.') || [".local", ".localhost", ".internal", ".lan"].iter().any(|end| name.ends_with(end))
        }
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Some(Host::Ipv6(address)) => match IpAddr::V6(address).to_canonical() {
            IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
            IpAddr::V6(address) => {
                address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
            }
        },
    }
}

pub(super) fn settings(config: &AgentConfig) -> Settings {
    Settings {
        limits: Limits {
            max_concurrent_total: config.max_concurrent,
            max_tokens_per_minute: config.max_tokens_per_minute,
            max_message_bytes: None,
        },
        prices: config.prices.clone(),
        discovery_interval: config.discovery_interval,
        shutdown_grace: config.shutdown_grace,
        max_message: config.max_message_size,
        kept_per_job: config.max_kept_per_job,
        kept: config.max_kept,
        remote_media: if config.allow_remote_media { RemoteMedia::Allowed } else { RemoteMedia::Refused },
        requires_auth2: config.require_auth2,
    }
}

/// The bounds of the ledger.
pub(super) fn ledger_limits(ledger: &LedgerConfig) -> accounts::Limits {
    accounts::Limits { age: ledger.age, size: u64::try_from(ledger.size).unwrap_or(u64::MAX) }
}

/// Host and port of each coordinator, in the configured order.
pub(super) fn coordinator_names(config: &AgentConfig) -> Vec<String> {
    let name = |site: &CoordinatorSite| HostPort::of(&site.url).map(|it| it.to_string()).unwrap_or_default();
    config.coordinators.iter().map(name).collect()
}

/// The coordinators. The identity is that at the first one.
pub(super) fn coordinators(
    config: &AgentConfig,
    identity: &Identity,
    tls: &Arc<ClientConfig>,
) -> Result<Vec<Coordinator>, IdentityError> {
    let coordinator = |(site, place): (&CoordinatorSite, u16)| {
        let target = HostPort::of(&site.url);
        let identity =
            target.map_or_else(|| Ok(identity.clone()), |target| identity.at(CoordinatorId(place), &target))?;
        let enrollment_code = site.enrollment_code.clone();
        Ok(Coordinator { connector: Rc::new(connector(config, &site.url, tls)), identity, enrollment_code })
    };
    config.coordinators.iter().zip(0..).map(coordinator).collect()
}

/// The way to a coordinator.
pub(super) fn connector(config: &AgentConfig, url: &Url, tls: &Arc<ClientConfig>) -> WebSocketConnector {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let proxy = config.proxy.as_ref().filter(|proxy| proxy.applies_to(host, port)).map(|proxy| ProxyTarget {
        host: proxy.addr_host.clone(),
        port: proxy.port,
        authorization: proxy.authorization.clone(),
    });
    WebSocketConnector::new(url.clone(), Arc::clone(tls), proxy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_local_by_where_it_is() {
        for (url, local) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost:1", true),
            ("http://gpu-box:8000", true),
            ("http://gpu.local", true),
            ("http://10.1.2.3", true),
            ("http://192.168.1.9:8000", true),
            ("http://[::1]:8000", true),
            ("http://[fd00::1]", true),
            ("http://[::ffff:10.0.0.1]", true),
            ("https://api.example.com", false),
            ("http://8.8.8.8", false),
            ("http://[2001:db8::1]", false),
        ] {
            assert_eq!(is_local(&Url::parse(url).unwrap()), local, "{url}");
        }
    }

    #[test]
    fn a_service_is_never_local() {
        for (kind, url, local) in [
            (BackendKind::OpenAi, "http://127.0.0.1:1", true),
            (BackendKind::OpenAi, "https://api.example.com", false),
            (BackendKind::OpenRouter, "https://openrouter.ai/api", false),
            (BackendKind::Venice, "http://127.0.0.1:1", false),
        ] {
            let backend = crate::config::BackendConfig {
                name: "x".into(),
                kind,
                base_url: Url::parse(url).unwrap(),
                options: BackendOptions::default(),
            };
            assert_eq!(policy(&Backends::List(vec![backend]))(&"x".into(), kind).local, local, "{kind} at {url}");
        }
    }
}
