//! Identifies the kind of server at an address by its routes and headers: ports are shared by many kinds and mean
//! nothing. Sends no key, so that no unknown server ever receives one. Driven by `auto`.
//!
//! The list of models comes first: a server without one, or one that a header identifies, is sent nothing else. Then the
//! routes that distinguish the kinds are requested at once; later only those of the identified kind, until they are gone.
//! A server that has none of them is probed for all again when its list changes or after it was gone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future;
use tokio::time::timeout;

use super::api::ApiClient;
use super::kinds::kind::{Identification, Kind};
use super::kinds::openai::{MODELS, Models};
use super::kinds::table;
use super::probe::LIST;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::ProbeError;

/// The header `Server` of this program's own coordinator, which is never a backend.
const COORDINATOR: &str = "outpost-coordinator";

/// How long the list of models may take.
const FIRST: Duration = Duration::from_millis(900);
/// How long the other signs may take. Both together leave time for the probe that follows.
const SIGNS: Duration = Duration::from_millis(500);

/// Identifies the server at one place, again and again, and remembers what it was.
pub(super) struct Identifier {
    /// Asks without a key.
    api: ApiClient,
    /// Of the last server that answered there. Forgotten when it is gone.
    known: RefCell<Option<Known>>,
}

/// What a server was identified as.
#[derive(Clone, PartialEq, Eq)]
struct Known {
    /// `None`: its list is locked, and it shows the routes of no kind.
    kind: Option<BackendKind>,
    /// Where it clearly has the routes of no kind: its list. While that stays the same, it is not probed for them again.
    plain: Option<Listing>,
}

impl Known {
    fn of_kind(kind: BackendKind) -> Self {
        Self { kind: Some(kind), plain: None }
    }
}

/// The answer for the list of models, as far as it distinguishes servers.
#[derive(Clone, PartialEq, Eq)]
struct Listing {
    status: u16,
    server: String,
    /// Ids and owners.
    models: BTreeSet<(String, Option<String>)>,
}

impl Identifier {
    pub(super) fn new(api: ApiClient) -> Self {
        Self { api, known: RefCell::new(None) }
    }

    /// The server was seen not to be there, or to be another one.
    pub(super) fn forget(&self) {
        self.known.replace(None);
    }

    /// The kind of server. Once it is known, only its own signs are requested while they are there, since some servers log
    /// every path that they don't know as an error. One that is too busy to show them is not taken for another.
    pub(super) async fn identify(&self) -> Result<BackendKind, ProbeError> {
        let last = self.known.borrow().clone();
        match self.compare(last).await {
            Ok(known) => {
                let kind = known.kind;
                self.known.replace(Some(known));
                kind.ok_or(ProbeError::Unauthorized)
            }
            Err(error) => {
                // One that is slow, or starting, is still there.
                if !matches!(error, ProbeError::TimedOut | ProbeError::NotReady) {
                    self.forget();
                }
                Err(error)
            }
        }
    }

    /// What the server is now, where `last` is what it was.
    async fn compare(&self, last: Option<Known>) -> Result<Known, ProbeError> {
        let last_kind = last.as_ref().and_then(|last| last.kind);
        if let Some(row) = by_routes().find(|row| Some(row.kind) == last_kind) {
            match self.sign(row).await {
                Sign::Shown => return Ok(Known::of_kind(row.kind)),
                Sign::Silent => return Err(ProbeError::TimedOut),
                Sign::Missing | Sign::Unclear => {}
            }
        }
        let answer = timeout(FIRST, self.api.get(MODELS, LIST)).await.unwrap_or(Err(ProbeError::TimedOut))?;
        if answer.server.starts_with(COORDINATOR) {
            return Err(ProbeError::Unexpected("a coordinator"));
        }
        // Its error responses carry the header too: a wrong key, or a model that is being loaded.
        let by_header = |row: &&Kind| matches!(row.identification, Identification::List { server, .. } if answer.server.starts_with(server));
        if let Some(row) = table::rows().find(by_header) {
            return Ok(Known::of_kind(row.kind));
        }
        let models: BTreeSet<_> = match answer.status {
            // Without its list, a server is known by the routes that it does not lock.
            401 => BTreeSet::new(),
            // Not a server of models: some desktop's service.
            403 => return Err(ProbeError::Unexpected("an error status")),
            _ => answer.json::<Models>()?.data.into_iter().map(|model| (model.id, model.owned_by)).collect(),
        };
        let is_locked = answer.status == 401;
        let listing = Listing { status: answer.status, server: answer.server, models };
        let by_owner =
            |row: &&Kind| matches!(row.identification, Identification::List { owner, .. } if listing.has_owner(owner));
        if let Some(row) = table::rows().find(by_owner) {
            return Ok(Known::of_kind(row.kind));
        }
        if let Some(last) = last.filter(|last| last.plain.as_ref() == Some(&listing)) {
            return Ok(last);
        }
        let may_be = |owner| is_locked || listing.has_owner(owner);
        Ok(match self.by_routes(last_kind, may_be).await? {
            Routes::Of(kind) => Known::of_kind(kind),
            Routes::OfNone { clearly } => {
                let kind = if is_locked { None } else { Some(BackendKind::GENERIC) };
                Known { kind, plain: clearly.then_some(listing) }
            }
        })
    }

    /// Whose routes the server has. A route that others have too counts if the models may belong to its owner.
    async fn by_routes(
        &self,
        last: Option<BackendKind>,
        may_be: impl Fn(&'static str) -> bool,
    ) -> Result<Routes, ProbeError> {
        let by_owner = || {
            table::rows().filter(
                |row| matches!(row.identification, Identification::RouteAndOwner { owner, .. } if may_be(owner)),
            )
        };
        if let Some(row) = by_owner().find(|row| Some(row.kind) == last) {
            return match self.sign(row).await {
                Sign::Shown => Ok(Routes::Of(row.kind)),
                Sign::Silent => Err(ProbeError::TimedOut),
                Sign::Missing | Sign::Unclear => Ok(Routes::OfNone { clearly: false }),
            };
        }
        let rows: Vec<&Kind> = by_routes().chain(by_owner()).collect();
        let signs = future::join_all(rows.iter().map(|row| self.sign(row))).await;
        let mut clearly = true;
        for (row, sign) in rows.into_iter().zip(signs) {
            match sign {
                Sign::Shown => return Ok(Routes::Of(row.kind)),
                // It may be the one that the next ones imitate.
                Sign::Silent => return Err(ProbeError::TimedOut),
                Sign::Unclear => clearly = false,
                Sign::Missing => {}
            }
        }
        Ok(Routes::OfNone { clearly })
    }

    async fn sign(&self, row: &Kind) -> Sign {
        let (Identification::Routes(route) | Identification::RouteAndOwner { route, .. }) = row.identification else {
            return Sign::Missing;
        };
        match timeout(SIGNS, route(&self.api)).await {
            Ok(Ok(())) => Sign::Shown,
            Ok(Err(ProbeError::Unexpected(_) | ProbeError::Unauthorized)) => Sign::Missing,
            Ok(Err(ProbeError::Unreachable | ProbeError::NotReady | ProbeError::TimedOut)) => Sign::Unclear,
            Err(_) => Sign::Silent,
        }
    }
}

/// The kinds with routes that only they and their imitators have, in the order in which they are identified.
fn by_routes() -> impl Iterator<Item = &'static Kind> {
    table::rows().filter(|row| matches!(row.identification, Identification::Routes(_)))
}

impl Listing {
    fn has_owner(&self, owner: &str) -> bool {
        self.models.iter().any(|(_, owned_by)| owned_by.as_deref() == Some(owner))
    }
}

/// Whose routes a server has.
enum Routes {
    Of(BackendKind),
    /// None that is known here; `clearly`: each response showed it.
    OfNone {
        clearly: bool,
    },
}

/// Whether a server shows the routes of a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Shown,
    /// It answers that it does not have them, or something else.
    Missing,
    /// It is not ready, or the connection broke.
    Unclear,
    /// No answer in time: it may be busy.
    Silent,
}
