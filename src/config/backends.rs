//! The backends an operator names, and the variables that hold for one of them.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::reader::{Reader, SecretUse};
use super::report::{Cause, Warning};
use super::urls::{self, Insecure};
use super::variable::Variable;
use super::{units, vars};
use crate::messages::backend::BackendKind;
use crate::messages::ids::{BackendId, ModelId};
use crate::messages::secret::Secret;

/// The most jobs at once that can be configured.
pub(super) const MAX_JOBS: u32 = 4096;

/// Which servers to use.
#[derive(Clone, Debug, PartialEq)]
pub enum Backends {
    /// Whatever known servers this host has. The options are those of the kinds for which some are set; a backend that
    /// is found is named as its kind.
    Auto(BTreeMap<BackendKind, BackendOptions>),
    /// These. At least one, and no name twice.
    List(Vec<BackendConfig>),
}

impl Backends {
    /// The names that a per-backend variable can have.
    pub fn names(&self) -> Vec<BackendId> {
        match self {
            Self::Auto(_) => BackendKind::of_servers().map(|kind| kind.as_str().into()).collect(),
            Self::List(backends) => backends.iter().map(|backend| backend.name.clone()).collect(),
        }
    }
}

/// A backend of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendConfig {
    /// The operator's name for it, else the kind's: 1 to 32 of `a-z`, `0-9` and `-`.
    pub name: BackendId,
    /// What it is.
    pub kind: BackendKind,
    /// Where it is: `http` or `https`, without credentials, query and fragment. The path has neither a slash at its end
    /// (but for the lone one) nor `/v1`.
    pub base_url: Url,
    /// What else is set for it.
    pub options: BackendOptions,
}

/// What can be set for one backend. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendOptions {
    /// Sent as a bearer token. ASCII without control characters.
    pub api_key: Option<Secret>,
    /// Models to offer; every one where this is `None`. Never empty.
    pub models: Option<BTreeSet<ModelId>>,
    /// Jobs at once, 1 to 4096.
    pub max_concurrent: Option<u32>,
    /// Added to the price of its models, as a fraction of it: 0 to 10.
    pub markup: f64,
}

impl Backends {
    /// Reads the list and every backend's own variables.
    pub(super) fn read(reader: &mut Reader<'_>, insecure: Insecure) -> Option<Self> {
        let text = reader.text(&vars::BACKENDS)?;
        if text.as_str() == "auto" {
            let options =
                BackendKind::of_servers().map(|kind| (kind, BackendOptions::read(reader, &kind.as_str().into())));
            return Some(Self::Auto(options.filter(|(_, options)| *options != BackendOptions::default()).collect()));
        }
        let mut taken = BTreeSet::new();
        let entries = reader.list(&vars::BACKENDS, |entry| {
            let (name, kind, base_url) = parse(entry)?;
            if !taken.insert(name.clone()) {
                return Err(Cause::DuplicateBackend(name.to_string()));
            }
            Ok((name, kind, base_url))
        })?;
        let mut list = Vec::with_capacity(entries.len());
        for (name, kind, base_url) in entries {
            let options = BackendOptions::read(reader, &name);
            if kind.is_service() {
                require_key(reader, &name, kind);
            }
            if options.api_key.is_some() && base_url.scheme() == "http" && !urls::is_loopback(&base_url) {
                let variable = vars::BACKENDS.name.to_string();
                match insecure {
                    Insecure::Refused => {
                        reader.reject(
                            &vars::BACKENDS,
                            Some(&format!("{name}@{kind}={base_url}")),
                            Cause::KeyToOtherHost,
                        );
                    }
                    Insecure::Allowed => reader.warn(Warning::Unencrypted { variable, url: base_url.to_string() }),
                }
            }
            list.push(BackendConfig { name, kind, base_url, options });
        }
        Some(Self::List(list))
    }
}

impl BackendOptions {
    fn read(reader: &mut Reader<'_>, backend: &BackendId) -> Self {
        let models = |text: &str| {
            let models: BTreeSet<ModelId> = units::entries(text).map(ModelId::from).collect();
            if models.is_empty() { Err(Cause::EmptyList) } else { Ok(models) }
        };
        let max_concurrent = |text: &str| units::small_integer(text, 1, MAX_JOBS);
        Self {
            api_key: reader.secret(&vars::BACKEND_API_KEY.for_backend(backend), SecretUse::Header),
            models: reader.parse(&vars::BACKEND_MODELS.for_backend(backend), models),
            max_concurrent: reader.parse(&vars::BACKEND_MAX_CONCURRENT.for_backend(backend), max_concurrent),
            markup: reader
                .parse(&vars::BACKEND_MARKUP.for_backend(backend), |text| units::number(text, 0, 10))
                .unwrap_or_default(),
        }
    }
}

/// Reports a key that is not set; one that is set and wrong was reported when it was read.
fn require_key(reader: &mut Reader<'_>, backend: &BackendId, kind: BackendKind) {
    let variable = vars::BACKEND_API_KEY.for_backend(backend);
    let file = variable.file_name().map(|name| Variable { name: name.into(), ..variable.clone() });
    if !reader.is_set(&variable) && !file.is_some_and(|file| reader.is_set(&file)) {
        reader.reject(&variable, None, Cause::KeyRequired(kind));
    }
}

/// One entry, `[name@]kind=url`; a service needs no URL.
fn parse(entry: &str) -> Result<(BackendId, BackendKind, Url), Cause> {
    if entry == "auto" {
        return Err(Cause::AutoInList);
    }
    let (label, url) = entry.split_once('=').map_or((entry, None), |(label, url)| (label, Some(url)));
    let (name, kind) = label.split_once('@').unwrap_or((label, label));
    // What holds no '=' may be a URL alone.
    let unknown = if url.is_some() { Cause::UnknownKind } else { Cause::NotABackend };
    let kind: BackendKind = kind.trim().parse().map_err(|_| unknown)?;
    let name = name.trim();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=32).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(Cause::BadBackendName);
    }
    let url = url.or(kind.service_url()).ok_or(Cause::NotABackend)?;
    Ok((name.into(), kind, urls::backend(url.trim())?))
}
