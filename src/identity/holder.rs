//! The identity in use: the key, the provider id, and the lock that goes with them.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signer as _, SigningKey};

use super::error::IdentityError;
use super::guarded_file::{self, beside};
use super::key;
use super::lock::Lock;
use super::new_file::{self, Existing};
use crate::messages::host_port::HostPort;
use crate::messages::ids::{CoordinatorId, IdError, ProviderId};

/// Who this agent is at one coordinator. Clones are the same identity; the key is wiped and the lock given up with the last one.
#[derive(Clone)]
pub struct Identity {
    holder: Arc<KeyHolder>,
    provider: Arc<ProviderSlot>,
}

/// The key, which is the same for all coordinators.
struct KeyHolder {
    key: SigningKey,
    home: Home,
}

/// The provider id that one coordinator has given.
#[derive(Default)]
struct ProviderSlot {
    /// Its file, unless it is kept in memory only.
    path: Option<PathBuf>,
    /// The provider id that holds. Never locked while the disk is waited for.
    current: Mutex<Option<ProviderId>>,
    /// The provider id that the file has: another one where it couldn't be written. Locked by the one who writes.
    stored: Mutex<Option<ProviderId>>,
}

/// Where an identity lives, and so what can be changed of it.
enum Home {
    /// In memory only.
    Memory,
    /// In a file that this process alone uses.
    Held { path: PathBuf, _lock: Lock },
    /// In a file that another process may be using.
    LookedAt { path: PathBuf },
}

/// Whether an identity was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was.
    Loaded,
    /// It was made just now.
    Created,
}

impl Identity {
    /// Opens the identity at a path for this process, and creates one if it does not exist.
    ///
    /// # Errors
    /// Where another process has it, where it can't be used, and where none can be made. Whatever is there stays.
    pub fn load_or_create(path: &Path) -> Result<(Self, Origin), IdentityError> {
        let unwritable = |source| IdentityError::Unwritable { path: path.to_owned(), source };
        new_file::make_directory_of(path).map_err(unwritable)?;
        guarded_file::check_directory_of(path)?;
        let lock = Lock::take(path)?;
        let provider_path = provider_path(path);
        new_file::clean_up(path).and_then(|()| new_file::clean_up(&provider_path)).map_err(unwritable)?;
        let (key, origin) = match read_key(path)? {
            Some(key) => (key, Origin::Loaded),
            None => {
                set_aside_all(path).map_err(unwritable)?;
                let key = key::generate().map_err(IdentityError::NoRandomness)?;
                let pem = key::to_pem(&key).map_err(|fault| IdentityError::Key { path: path.to_owned(), fault })?;
                new_file::place(path, pem.as_bytes(), Existing::Keep).map_err(unwritable)?;
                (key, Origin::Created)
            }
        };
        let home = Home::Held { path: path.to_owned(), _lock: lock };
        let provider = ProviderSlot::read(provider_path)?;
        Ok((Self { holder: Arc::new(KeyHolder { key, home }), provider: Arc::new(provider) }, origin))
    }

    /// Reads the identity at a path, which another process may be using. It can't be changed.
    ///
    /// # Errors
    /// If it does not exist, or can't be used.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        guarded_file::check_directory_of(path)?;
        let key = read_key(path)?.ok_or_else(|| IdentityError::Missing { path: path.to_owned() })?;
        let (home, provider) = (Home::LookedAt { path: path.to_owned() }, ProviderSlot::read(provider_path(path))?);
        Ok(Self { holder: Arc::new(KeyHolder { key, home }), provider: Arc::new(provider) })
    }

    /// A new identity that is never written anywhere.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        let key = key::generate().map_err(IdentityError::NoRandomness)?;
        Ok(Self { holder: Arc::new(KeyHolder { key, home: Home::Memory }), provider: Arc::default() })
    }

    /// The same agent at one of its coordinators. At the first one this is the identity itself. At another one the agent has
    /// another provider id, in a file with the coordinator's host and port in its name.
    ///
    /// # Errors
    /// If the file is there and can't be used.
    pub fn at(&self, place: CoordinatorId, coordinator: &HostPort) -> Result<Self, IdentityError> {
        if place == CoordinatorId::FIRST {
            return Ok(self.clone());
        }
        let provider = match &self.holder.home {
            Home::Held { path, .. } => {
                let path = other_provider_path(path, coordinator);
                new_file::clean_up(&path).map_err(|source| IdentityError::Unwritable { path: path.clone(), source })?;
                ProviderSlot::read(path)?
            }
            Home::LookedAt { path } => ProviderSlot::read(other_provider_path(path, coordinator))?,
            Home::Memory => ProviderSlot::default(),
        };
        Ok(Self { holder: Arc::clone(&self.holder), provider: Arc::new(provider) })
    }

    /// The public key.
    pub fn pubkey(&self) -> [u8; 32] {
        self.holder.key.verifying_key().to_bytes()
    }

    /// The public key in base64: the standard alphabet, with padding.
    pub fn pubkey_base64(&self) -> String {
        BASE64_STANDARD.encode(self.pubkey())
    }

    /// The signature of exactly these bytes. What may be signed is the caller's to decide.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.holder.key.sign(message).to_bytes()
    }

    /// The id that the coordinator gave.
    pub fn provider_id(&self) -> Option<ProviderId> {
        self.current().clone()
    }

    /// Keeps the id that the coordinator gave, and returns the other one that it replaces. Writes to the disk and waits
    /// for it, but only where the id is not there yet.
    ///
    /// # Errors
    /// Where it can't be written, or an earlier call still writes: then it holds for this process only, and the next call
    /// with the same id tries again. Also if the identity is read-only: then nothing changes.
    pub fn store_provider_id(&self, id: &ProviderId) -> Result<Option<ProviderId>, IdentityError> {
        if let Home::LookedAt { path } = &self.holder.home {
            return Err(IdentityError::OnlyLookedAt { path: path.clone() });
        }
        let replaced = self.current().replace(id.clone()).filter(|old| old != id);
        let Some(path) = self.provider.path.clone() else { return Ok(replaced) };
        // A disk that hangs is to hold one thread, not one for each connection.
        let mut stored = match self.provider.stored.try_lock() {
            Ok(stored) => stored,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(IdentityError::StillWriting { path }),
        };
        if stored.as_ref() != Some(id) {
            let line = format!("{id}\n");
            new_file::place(&path, line.as_bytes(), Existing::Replace)
                .map_err(|source| IdentityError::Unwritable { path, source })?;
            *stored = Some(id.clone());
        }
        Ok(replaced)
    }

    fn current(&self) -> MutexGuard<'_, Option<ProviderId>> {
        // Nothing panics while it is held.
        self.provider.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.pubkey_base64()).finish()
    }
}

impl ProviderSlot {
    fn read(path: PathBuf) -> Result<Self, IdentityError> {
        let stored = read_provider(&path)?;
        Ok(Self { path: Some(path), current: Mutex::new(stored.clone()), stored: Mutex::new(stored) })
    }
}

/// The file of the id at the first coordinator.
fn provider_path(key: &Path) -> PathBuf {
    beside(key, ".provider")
}

/// The file of the id at another one. A host has no `/`, and no characters but letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
fn other_provider_path(key: &Path, coordinator: &HostPort) -> PathBuf {
    beside(key, &format!(".provider.{coordinator}"))
}

/// Moves the ids away that were given to another key: an agent that still holds an id sends no enrollment code.
fn set_aside_all(key: &Path) -> io::Result<()> {
    set_aside(&provider_path(key))?;
    let (Some(folder), Some(of_others)) = (key.parent(), beside(key, ".provider.").file_name().map(OsString::from))
    else {
        return Ok(());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let is_one = name.as_encoded_bytes().starts_with(of_others.as_encoded_bytes());
        if is_one && !name.as_encoded_bytes().ends_with(b".old") {
            set_aside(&folder.join(name))?;
        }
    }
    Ok(())
}

fn set_aside(provider: &Path) -> io::Result<()> {
    match fs::rename(provider, beside(provider, ".old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_key(path: &Path) -> Result<Option<SigningKey>, IdentityError> {
    let Some(pem) = guarded_file::read(path)? else { return Ok(None) };
    let key = key::from_pem(&pem);
    key.map(Some).map_err(|fault| IdentityError::Key { path: path.to_owned(), fault })
}

fn read_provider(path: &Path) -> Result<Option<ProviderId>, IdentityError> {
    let Some(content) = guarded_file::read(path)? else { return Ok(None) };
    let id = provider_in(&content);
    id.map(Some).map_err(|fault| IdentityError::ProviderId { path: path.to_owned(), fault })
}

/// The id in the content of its file.
pub(crate) fn provider_in(content: &[u8]) -> Result<ProviderId, IdError> {
    let text = std::str::from_utf8(content).map_err(|_| IdError::NotAToken)?;
    text.strip_suffix('\n').unwrap_or(text).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_hangs_holds_up_neither_the_id_nor_another_write() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, _) = Identity::load_or_create(&folder.path().join("key")).unwrap();
        let [first, second]: [ProviderId; 2] = ["p-1", "p-2"].map(|id| id.parse().unwrap());
        assert_eq!(identity.store_provider_id(&first).unwrap(), None);
        let writing = identity.provider.stored.lock().unwrap();
        assert!(matches!(identity.store_provider_id(&second), Err(IdentityError::StillWriting { .. })));
        assert_eq!(identity.provider_id(), Some(second.clone()));
        drop(writing);
        assert_eq!(identity.store_provider_id(&second).unwrap(), None);
        assert_eq!(fs::read(folder.path().join("key.provider")).unwrap(), b"p-2\n");
    }
}
