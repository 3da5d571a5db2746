//! The one HTTP client that works jobs, whatever the kind of server. Not a look at the server; driven by a worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use awc::http::header::CONTENT_TYPE;
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use rustls::ClientConfig;
use url::Url;

use super::api::{self, Api, ApiClient};
use super::download::Download;
use super::upload::Pieces;
use super::{Backend, BackendFactory, BackendRequest, BackendResponse, SendError};
use crate::messages::ids::BackendId;
use crate::messages::secret::Secret;

/// Makes [`HttpBackend`]s of one server.
pub struct HttpBackendFactory {
    id: BackendId,
    api: Api,
    key: u64,
}

impl HttpBackendFactory {
    /// `base_url` may end in `/v1`. An `https` URL whose host is an IPv6 address can't be reached.
    pub fn new(id: BackendId, base_url: &Url, api_key: Option<Secret>, tls: Arc<ClientConfig>) -> Self {
        Self::of_api(id, Api::new(base_url, api_key, tls))
    }

    pub(super) fn of_api(id: BackendId, api: Api) -> Self {
        Self { id, api, key: KEYS.fetch_add(1, Ordering::Relaxed) }
    }

    /// A client for looks at this server, for the calling thread.
    pub(super) fn api_client(&self) -> ApiClient {
        self.api.client()
    }
}

impl BackendFactory for HttpBackendFactory {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn open(&self) -> Rc<dyn Backend> {
        OPEN.with_borrow_mut(|open| {
            open.retain(|_, client| client.strong_count() > 0);
            if let Some(client) = open.get(&self.key).and_then(Weak::upgrade) {
                return client;
            }
            let client = Rc::new(HttpBackend { api: self.api.client() });
            open.insert(self.key, Rc::downgrade(&client));
            client
        })
    }
}

thread_local! {
    /// This thread's clients in use, by the key of their factory: workers of one thread share one.
    static OPEN: RefCell<HashMap<u64, Weak<HttpBackend>>> = RefCell::default();
}

/// Tells factories apart.
static KEYS: AtomicU64 = AtomicU64::new(0);

/// A thread's client of one server. Every request has a connection of its own.
pub struct HttpBackend {
    api: ApiClient,
}

impl Backend for HttpBackend {
    fn send(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<BackendResponse, SendError>> {
        let sent = self.api.post(request.endpoint).send_body(Pieces::new(request.body));
        async move {
            let response = api::head(sent).await?;
            Ok(BackendResponse {
                status: response.status().as_u16(),
                content_type: content_type(&response),
                body: Download::new(response).boxed_local(),
            })
        }
        .boxed_local()
    }
}

fn content_type(response: &awc::ClientResponse) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
