//! Looks at one server of a known kind, again and again, and remembers what need not be asked each time. Driven by the
//! sources of `configured` and `auto`.

use std::cell::RefCell;
use std::time::Duration;

use super::LookError;
use super::api::ApiClient;
use super::kinds::each;
use super::offer::Offer;
use super::proof::{self, Proof, Question};
use crate::messages::backend::BackendKind;
use crate::messages::discovery::BackendReport;

/// How long a server may take to say how busy it is.
const LOAD: Duration = Duration::from_secs(1);

/// One server, seen from one thread.
pub(super) struct Observer {
    kind: BackendKind,
    api: ApiClient,
    /// Which endpoints the server has. A look that is given up leaves it as it is: a server that is slow is still there.
    proof: RefCell<Proof>,
}

impl Observer {
    pub(super) fn new(kind: BackendKind, api: ApiClient) -> Self {
        Self { kind, api, proof: RefCell::default() }
    }

    /// One look: what the server offers, then which endpoints it has, as far as that is not known.
    pub(super) async fn look(&self) -> Result<BackendReport, LookError> {
        let offer = each::offer(self.kind, &self.api).await;
        let mut offer = offer.inspect_err(|_| self.forget())?;
        let question = each::question(self.kind);
        if !matches!(question, Question::Documented) {
            let open = self.proof.borrow_mut().questions(&offer);
            let answers = proof::ask(&self.api, question, open).await;
            if !self.proof.borrow_mut().settle(&answers, &mut offer) {
                return Err(LookError::NotReady);
            }
        }
        let Offer { models, slots, busy, .. } = offer;
        Ok(BackendReport { kind: self.kind, models, slots, busy })
    }

    /// The server was seen not to be there: what comes back may be another one.
    pub(super) fn forget(&self) {
        self.proof.borrow_mut().forget();
    }

    /// How many requests the server works, and nothing else.
    pub(super) async fn load(&self) -> Option<u32> {
        tokio::time::timeout(LOAD, each::load(self.kind, &self.api)).await.ok()?
    }
}
