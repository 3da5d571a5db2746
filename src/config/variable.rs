//! What is known of one variable: its name, default, example and meaning. The rows of `vars`.

use std::borrow::Cow;

use super::urls;
use crate::messages::backend::BackendKind;
use crate::messages::ids::BackendId;

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name. `<NAME>` in it stands for a backend's name, see [`Variable::for_backend`].
    pub name: Cow<'static, str>,
    /// What applies if it is not set.
    pub fallback: Fallback,
    /// A value that is accepted.
    pub example: &'static str,
    /// See [`Variable::help`].
    pub(super) help: &'static str,
    /// Whether its value may be shown.
    pub secrecy: Secrecy,
    /// Which commands read it.
    pub scope: Scope,
}

/// What applies if a variable is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// It must be set.
    Required,
    /// The feature is off, or there is no limit.
    Unset,
    /// This value, parsed like any other.
    Value(&'static str),
    /// A value that depends on the machine or on other variables, described in words.
    Derived(&'static str),
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// It may.
    Public,
    /// It may, except the credentials in a URL.
    Url,
    /// It may not. A second variable, with the suffix `_FILE`, can name a file that contains the value.
    Secret,
}

/// Which commands read a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of the agent: `run`, `dev`, and the commands that show its state.
    Agent,
    /// `coordinator`, and the coordinator within `dev`.
    Coordinator,
    /// Every command.
    Every,
}

impl Scope {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Agent, Self::Coordinator, Self::Every];
}

/// Stands for a backend's name in the name of a variable.
const SLOT: &str = "<NAME>";
/// Stand for the names of kinds of backends in a help text.
const SERVERS: &str = "<SERVERS>";
const SERVICES: &str = "<SERVICES>";

impl Variable {
    pub(super) const fn agent(
        name: &'static str,
        fallback: Fallback,
        example: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name: Cow::Borrowed(name), fallback, example, help, secrecy: Secrecy::Public, scope: Scope::Agent }
    }

    /// A variable of the coordinator.
    pub(super) const fn coordinator(
        name: &'static str,
        fallback: Fallback,
        example: &'static str,
        help: &'static str,
    ) -> Self {
        Self::agent(name, fallback, example, help).of(Scope::Coordinator)
    }

    pub(super) const fn of(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    pub(super) const fn url(mut self) -> Self {
        self.secrecy = Secrecy::Url;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secrecy = Secrecy::Secret;
        self
    }

    /// The name of the `_FILE` variable, if it has one.
    pub(crate) fn file_name(&self) -> Option<String> {
        (self.secrecy == Secrecy::Secret).then(|| format!("{}_FILE", self.name))
    }

    /// The part of a value that may be shown, if any.
    pub(super) fn showable(&self, value: &str) -> Option<String> {
        match self.secrecy {
            Secrecy::Public => Some(value.to_owned()),
            Secrecy::Url => Some(urls::masked(value)),
            Secrecy::Secret => None,
        }
    }

    /// Its meaning, with unit and bounds: one sentence, no final period.
    pub(crate) fn help(&self) -> String {
        let names = |kinds: &mut dyn Iterator<Item = BackendKind>| {
            kinds.map(BackendKind::as_str).collect::<Vec<_>>().join(", ")
        };
        let help = self.help.replace(SERVERS, &names(&mut BackendKind::of_servers()));
        help.replace(SERVICES, &names(&mut BackendKind::of_services()))
    }

    /// Whether its name contains a placeholder for a backend's name.
    pub(crate) fn is_per_backend(&self) -> bool {
        self.name.contains(SLOT)
    }

    /// The variable for one backend: its name in upper case, `-` as `_`.
    #[must_use]
    pub(crate) fn for_backend(&self, backend: &BackendId) -> Self {
        let slot = backend.as_str().to_ascii_uppercase().replace('-', "_");
        Self { name: Cow::Owned(self.name.replace(SLOT, &slot)), ..self.clone() }
    }
}
