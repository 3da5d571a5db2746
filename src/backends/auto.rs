//! Sources for a host without configured backends: the ports where inference servers usually listen. `identify` finds out
//! what listens there. Driven by discovery.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{FutureExt, LocalBoxFuture};

use super::api::Api;
use super::client::HttpBackendFactory;
use super::identify::Identifier;
use super::kinds::table;
use super::observer::Observer;
use super::{BackendFactory, ProbeResult, Source};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::endpoint::Endpoints;
use crate::messages::ids::BackendId;
use crate::messages::secret::Secret;

/// The ports of this host that are probed: the default ports of servers that speak OpenAI's API.
pub fn usual_ports() -> Vec<u16> {
    table::usual_ports()
}

/// One source for each of the [`usual_ports`] of this host. `keys`: the key for servers of a kind; it is sent only to a
/// server that was seen to be of that kind.
pub fn sources(keys: &BTreeMap<BackendKind, Secret>) -> Vec<Box<dyn Source>> {
    usual_ports().into_iter().map(|port| source(port, keys.clone())).collect()
}

/// A source for any one port of this host.
pub fn source(port: u16, keys: BTreeMap<BackendKind, Secret>) -> Box<dyn Source> {
    let name = format!("127.0.0.1:{port}");
    Box::new(Found(Rc::new(Port { name, port, keys, identifier: OnceCell::new(), known: RefCell::new(None) })))
}

/// The name of a backend of `kind` at `port`.
fn id(kind: BackendKind, port: u16) -> BackendId {
    if table::of(kind).usual_port == Some(port) {
        BackendId::from(kind.as_str())
    } else {
        BackendId::from(format!("{kind}-{port}"))
    }
}

/// The endpoints that a server of `kind` is taken to have. One that shows what it is has those of its kind, as if it had been
/// declared. One with nothing but a list of models may be anything: it has what it proves to have.
fn presumed(kind: BackendKind) -> Endpoints {
    if kind == BackendKind::GENERIC { Endpoints::NONE } else { table::of(kind).documented }
}

struct Found(Rc<Port>);

struct Port {
    name: String,
    port: u16,
    keys: BTreeMap<BackendKind, Secret>,
    /// Made by the first probe, on the thread that probes.
    identifier: OnceCell<Identifier>,
    /// What was last seen to answer here. Kept while nothing answers, replaced when another kind does.
    known: RefCell<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    kind: BackendKind,
    factory: Arc<HttpBackendFactory>,
    observer: Rc<Observer>,
}

impl Port {
    fn known(&self, kind: BackendKind) -> Known {
        let mut known = self.known.borrow_mut();
        match &*known {
            Some(same) if same.kind == kind => same.clone(),
            _ => {
                let api = Api::local(self.port, self.keys.get(&kind).cloned());
                let observer = Rc::new(Observer::new(kind, api.client(), presumed(kind)));
                let factory = Arc::new(HttpBackendFactory::of_api(id(kind, self.port), kind, api));
                known.insert(Known { kind, factory, observer }).clone()
            }
        }
    }

    async fn probe(&self) -> Result<ProbeResult, ProbeError> {
        let identifier = self.identifier.get_or_init(|| Identifier::new(Api::local(self.port, None).client()));
        let kind = identifier.identify().await.inspect_err(|error| {
            // One that is slow is still there.
            if let Some(known) = self.known.borrow().as_ref().filter(|_| *error != ProbeError::TimedOut) {
                known.observer.forget();
            }
        })?;
        let Known { factory, observer, .. } = self.known(kind);
        let report = observer.probe().await.inspect_err(|error| {
            if matches!(error, ProbeError::Unreachable | ProbeError::Unexpected(_)) {
                identifier.forget();
            }
        })?;
        Ok(ProbeResult { factory: factory as Arc<dyn BackendFactory>, report })
    }
}

impl Source for Found {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn is_configured(&self) -> bool {
        false
    }

    fn probe(&self) -> LocalBoxFuture<'static, Result<ProbeResult, ProbeError>> {
        let port = Rc::clone(&self.0);
        async move { port.probe().await }.boxed_local()
    }

    fn load(&self) -> LocalBoxFuture<'static, Option<u32>> {
        let observer = self.0.known.borrow().as_ref().map(|known| Rc::clone(&known.observer));
        async move { observer?.load().await }.boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn whatever_answers_where_names_are_unique() {
        let names: HashSet<BackendId> =
            usual_ports().into_iter().flat_map(|port| BackendKind::ALL.map(|kind| id(kind, port))).collect();
        assert_eq!(names.len(), usual_ports().len() * BackendKind::ALL.len());
    }

    #[test]
    fn every_usual_port_is_probed_once() {
        assert_eq!(usual_ports(), [8000, 8080, 9931, 1234, 11434, 30000, 3000, 5001, 5000, 23333]);
    }

    #[test]
    fn a_kind_has_its_plain_name_at_its_usual_port_only() {
        assert_eq!(id(BackendKind::LlamaCpp, 8080).as_str(), "llamacpp");
        assert_eq!(id(BackendKind::LlamaCpp, 9931).as_str(), "llamacpp-9931");
        assert_eq!(id(BackendKind::OpenAi, 8000).as_str(), "openai-8000");
    }
}
