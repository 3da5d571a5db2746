//! Looks at one server of a known kind, again and again, and remembers what need not be asked each time. Driven by the
//! sources of `configured` and `auto`.

use std::cell::Cell;
use std::time::Duration;

use super::LookError;
use super::api::ApiClient;
use super::kinds::each;
use super::offer::Offer;
use super::proof::Proof;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::BackendReport;

/// How long a server may take to say how busy it is.
const LOAD: Duration = Duration::from_secs(1);

/// One server, seen from one thread.
pub(super) struct Observer {
    kind: BackendKind,
    api: ApiClient,
    /// Which endpoints the server has. Empty from the start of a look until it succeeds, so that a look that fails or is
    /// dropped leaves nothing behind.
    proof: Cell<Proof>,
}

impl Observer {
    pub(super) fn new(kind: BackendKind, api: ApiClient) -> Self {
        Self { kind, api, proof: Cell::default() }
    }

    /// One look: what the server offers, then which endpoints it has, as far as that is not known.
    pub(super) async fn look(&self) -> Result<BackendReport, LookError> {
        let mut proof = self.proof.take();
        let mut offer = each::offer(self.kind, &self.api).await?;
        let can_tell = proof.apply(&self.api, each::question(self.kind), &mut offer).await;
        self.proof.set(proof);
        if !can_tell {
            return Err(LookError::NotReady);
        }
        let Offer { models, slots, busy, .. } = offer;
        Ok(BackendReport { kind: self.kind, models, slots, busy })
    }

    /// How many requests the server works, and nothing else.
    pub(super) async fn load(&self) -> Option<u32> {
        tokio::time::timeout(LOAD, each::load(self.kind, &self.api)).await.ok()?
    }
}
