//! The one HTTP client that works jobs, whatever the kind of server. Does not probe; driven by a worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::{StreamExt, TryStreamExt};
use rustls::ClientConfig;
use url::Url;

use super::abort::{AbortGuard, Aborts, watched};
use super::api::{Api, ApiClient};
use super::kinds::table;
use super::{Backend, BackendFactory, BackendRequest, BackendResponse, BodyError, SendError};
use crate::core::formats::key_trace::KeyTrace;
use crate::messages::backend::BackendKind;
use crate::messages::ids::BackendId;
use crate::messages::secret::Secret;
use crate::transport::http::Response;

/// Makes clients of one server.
pub struct HttpBackendFactory {
    id: BackendId,
    kind: BackendKind,
    api: Api,
    key: u64,
    key_trace: Option<Arc<KeyTrace>>,
}

impl HttpBackendFactory {
    /// A server of a kind. `base_url` may end in `/v1`.
    pub fn new(
        id: BackendId,
        kind: BackendKind,
        base_url: &Url,
        api_key: Option<Secret>,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self::of_api(id, kind, Api::new(base_url, api_key, tls))
    }

    pub(super) fn of_api(id: BackendId, kind: BackendKind, api: Api) -> Self {
        let key_trace = api.key_trace().map(Arc::new);
        Self { id, kind, api, key: KEYS.fetch_add(1, Ordering::Relaxed), key_trace }
    }

    /// A client for probes of this server, for the calling thread.
    pub(super) fn api_client(&self) -> ApiClient {
        self.api.client()
    }
}

impl BackendFactory for HttpBackendFactory {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn kind(&self) -> BackendKind {
        self.kind
    }

    fn open(&self) -> Rc<dyn Backend> {
        OPEN.with_borrow_mut(|open| {
            open.retain(|_, client| client.strong_count() > 0);
            if let Some(client) = open.get(&self.key).and_then(Weak::upgrade) {
                return client;
            }
            let aborts = table::of(self.kind).abort.map(|abort| Aborts::start(abort, self.api.client()));
            let api = self.api.reusing_client();
            let client = Rc::new(HttpBackend { api, aborts, key_trace: self.key_trace.clone() });
            open.insert(self.key, Rc::downgrade(&client));
            client
        })
    }
}

thread_local! {
    /// This thread's clients in use, by the key of their factory: workers of one thread share one, so that
    /// the bounds of abort requests hold for all of them.
    static OPEN: RefCell<HashMap<u64, Weak<HttpBackend>>> = RefCell::default();
}

/// Distinguishes factories.
static KEYS: AtomicU64 = AtomicU64::new(0);

/// A thread's client of one server. Requests at the same time have a connection each; one that ended leaves its connection
/// to the next.
pub(crate) struct HttpBackend {
    api: ApiClient,
    /// Ends requests at the server that no one waits for any more.
    aborts: Option<Aborts>,
    key_trace: Option<Arc<KeyTrace>>,
}

impl Backend for HttpBackend {
    fn key_trace(&self) -> Option<Arc<KeyTrace>> {
        self.key_trace.clone()
    }

    fn send(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<BackendResponse, SendError>> {
        let BackendRequest { job, endpoint, body } = request;
        let (body, guard) = match &self.aborts {
            Some(aborts) => aborts.watch(job, endpoint, body),
            None => (body, None),
        };
        let sent = self.api.post(endpoint).send_body(body);
        async move {
            let response = match sent.await {
                Ok(response) => response,
                Err(error) => {
                    guard.into_iter().for_each(AbortGuard::disarm);
                    return Err(error.into());
                }
            };
            // A request that was refused generates nothing.
            let (guard, refused) = if response.is_success() { (guard, None) } else { (None, guard) };
            refused.into_iter().for_each(AbortGuard::disarm);
            let Response { status, content_type, body, .. } = response;
            Ok(BackendResponse {
                status,
                content_type,
                body: watched(body.map_err(BodyError::from).boxed_local(), guard),
            })
        }
        .boxed_local()
    }
}
