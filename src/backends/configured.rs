//! A source that the operator configured: its kind and place are given. Does not search; driven by discovery.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use rustls::ClientConfig;
use url::Url;

use super::client::HttpBackendFactory;
use super::kinds::table;
use super::observer::Observer;
use super::{BackendFactory, ProbeResult, Source};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;
use crate::messages::ids::BackendId;
use crate::messages::secret::Secret;

/// A source for a backend that is known to be of `kind` at `base_url`, which may end in `/v1`.
pub fn source(
    id: BackendId,
    kind: BackendKind,
    base_url: Url,
    api_key: Option<Secret>,
    tls: Arc<ClientConfig>,
) -> Box<dyn Source> {
    let factory = Arc::new(HttpBackendFactory::new(id, kind, &base_url, api_key, tls));
    Box::new(Configured(Rc::new(Place { kind, factory, observer: OnceCell::new() })))
}

struct Configured(Rc<Place>);

struct Place {
    kind: BackendKind,
    factory: Arc<HttpBackendFactory>,
    /// Made by the first probe, on the thread that probes.
    observer: OnceCell<Observer>,
}

impl Place {
    fn observer(&self) -> &Observer {
        // What the operator declares is not questioned.
        self.observer
            .get_or_init(|| Observer::new(self.kind, self.factory.api_client(), table::of(self.kind).documented))
    }
}

impl Source for Configured {
    fn name(&self) -> &str {
        self.0.factory.id().as_str()
    }

    fn timeout(&self) -> Duration {
        // A service lists hundreds of models, from far away.
        Duration::from_secs(if self.0.kind.is_service() { 10 } else { 2 })
    }

    fn probe(&self) -> LocalBoxFuture<'static, Result<ProbeResult, ProbeError>> {
        let place = Rc::clone(&self.0);
        async move {
            let report = place.observer().probe().await?;
            let factory: Arc<dyn BackendFactory> = Arc::<HttpBackendFactory>::clone(&place.factory);
            Ok(ProbeResult { factory, report })
        }
        .boxed_local()
    }

    fn load(&self) -> LocalBoxFuture<'static, Option<u32>> {
        let place = Rc::clone(&self.0);
        async move { place.observer().load().await }.boxed_local()
    }
}
