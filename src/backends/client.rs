//! The one HTTP client that works jobs, whatever the kind of server. Not a look at the server; driven by a worker.

use std::rc::Rc;
use std::sync::Arc;

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
}

impl HttpBackendFactory {
    /// `base_url` may end in `/v1`. An `https` URL whose host is an IPv6 address can't be reached.
    pub fn new(id: BackendId, base_url: &Url, api_key: Option<Secret>, tls: Arc<ClientConfig>) -> Self {
        Self::of_api(id, Api::new(base_url, api_key, tls))
    }

    pub(super) fn of_api(id: BackendId, api: Api) -> Self {
        Self { id, api }
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
        Rc::new(HttpBackend { api: self.api.client() })
    }
}

/// A thread's client of one server. Every request has a connection of its own.
pub struct HttpBackend {
    api: ApiClient,
}

impl Backend for HttpBackend {
    fn send(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<BackendResponse, SendError>> {
        let sent = self.api.post(request.format).send_body(Pieces::new(request.body));
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
