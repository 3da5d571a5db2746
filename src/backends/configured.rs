//! A source that the operator configured: its kind and place are given. Finds nothing by itself; driven by discovery.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{FutureExt, LocalBoxFuture};
use rustls::ClientConfig;
use url::Url;

use super::client::HttpBackendFactory;
use super::observer::Observer;
use super::{BackendFactory, LookError, Sighting, Source};
use crate::messages::backend::BackendKind;
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
    let factory = Arc::new(HttpBackendFactory::new(id, &base_url, api_key, tls));
    Box::new(Configured(Rc::new(Place { kind, factory, observer: OnceCell::new() })))
}

struct Configured(Rc<Place>);

struct Place {
    kind: BackendKind,
    factory: Arc<HttpBackendFactory>,
    /// Made by the first look, on the thread that looks.
    observer: OnceCell<Observer>,
}

impl Source for Configured {
    fn name(&self) -> &str {
        self.0.factory.id().as_str()
    }

    fn look(&self) -> LocalBoxFuture<'static, Result<Sighting, LookError>> {
        let place = Rc::clone(&self.0);
        async move {
            let observer = place.observer.get_or_init(|| Observer::new(place.kind, place.factory.api_client()));
            let report = observer.look().await?;
            let factory: Arc<dyn BackendFactory> = Arc::<HttpBackendFactory>::clone(&place.factory);
            Ok(Sighting { factory, report })
        }
        .boxed_local()
    }
}
