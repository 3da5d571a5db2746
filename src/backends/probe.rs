//! One request of a probe: a bounded response, and its JSON as a type, or the status alone. Knows no kind of server; driven
//! by `kinds` and `identify`.

use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::api::ApiClient;
use crate::messages::discovery::ProbeError;
use crate::transport::http::{HttpBodyError, HttpError, Method, Response};

/// Most that is read of a list of models, in bytes.
pub(super) const LIST: usize = 8 * 1024 * 1024;
/// Most that is read of any other document, in bytes.
pub(super) const DOCUMENT: usize = 256 * 1024;

/// An answer to a GET.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header `Server`, in lower case; empty where there is none.
    pub(super) server: String,
    /// Of a success only.
    pub(super) body: Vec<u8>,
}

impl ApiClient {
    /// Reads `path`. A response of more than `most` bytes is an error; at most that many are held.
    pub(super) async fn get(&self, path: &str, most: usize) -> Result<Answer, ProbeError> {
        let response = self.request(Method::Get, path).send().await.map_err(in_probe)?;
        let is_success = response.is_success();
        let Response { status, server, body: mut pieces, .. } = response;
        let mut body = Vec::new();
        if is_success {
            while let Some(bytes) = pieces.next().await {
                let bytes = bytes.map_err(|error| match error {
                    HttpBodyError::Broken => ProbeError::Unreachable,
                    HttpBodyError::Encoded => ProbeError::Unexpected("an encoded body"),
                })?;
                if body.len() + bytes.len() > most {
                    return Err(ProbeError::Unexpected("too long"));
                }
                body.extend_from_slice(&bytes);
            }
        }
        Ok(Answer { status, server, body })
    }

    /// Checks only that the server is there, takes the key and is ready. Any other response counts: not every server knows
    /// the method.
    pub(super) async fn is_there(&self, path: &str) -> Result<(), ProbeError> {
        match self.request(Method::Head, path).send().await.map_err(in_probe)?.status {
            401 | 403 => Err(ProbeError::Unauthorized),
            502..=504 => Err(ProbeError::NotReady),
            _ => Ok(()),
        }
    }

    /// Reads a JSON document.
    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str, most: usize) -> Result<T, ProbeError> {
        self.get(path, most).await?.json()
    }
}

fn in_probe(error: HttpError) -> ProbeError {
    match error {
        HttpError::Unreachable | HttpError::Broke => ProbeError::Unreachable,
        HttpError::Garbled => ProbeError::Unexpected("not HTTP"),
    }
}

impl Answer {
    /// The document in a success, or the error that the status stands for.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ProbeError> {
        match self.status {
            200 => {
                serde_json::from_slice(&self.body).map_err(|_| ProbeError::Unexpected("not the JSON of such a server"))
            }
            401 | 403 => Err(ProbeError::Unauthorized),
            // 502 and 504 are of a proxy whose server is not there yet.
            502..=504 => Err(ProbeError::NotReady),
            404 => Err(ProbeError::Unexpected("no such path")),
            300..=399 => Err(ProbeError::Unexpected("a redirect")),
            _ => Err(ProbeError::Unexpected("an error status")),
        }
    }
}
