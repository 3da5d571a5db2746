//! Who the agent is. A stand-in that holds its key in memory only.

use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::{Signer as _, SigningKey};

use crate::messages::ids::ProviderId;

/// Why an identity can't be had or kept.
#[derive(Debug, thiserror::Error)]
#[error("the identity can't be kept")]
pub struct IdentityError;

/// Who the agent is. Clones are the same identity.
#[derive(Clone)]
pub struct Identity(Arc<(SigningKey, Mutex<Option<ProviderId>>)>);

impl Identity {
    /// A new identity that is never written anywhere.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        Ok(Self(Arc::new((SigningKey::from_bytes(&rand::random()), Mutex::default()))))
    }

    /// The public key.
    pub fn pubkey(&self) -> [u8; 32] {
        self.0.0.verifying_key().to_bytes()
    }

    /// The signature of exactly these bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.0.sign(message).to_bytes()
    }

    /// The id that the coordinator gave.
    pub fn provider_id(&self) -> Option<ProviderId> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the id that the coordinator gave, and returns the other one that it replaces.
    pub fn store_provider_id(&self, id: &ProviderId) -> Result<Option<ProviderId>, IdentityError> {
        let mut current = self.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(current.replace(id.clone()).filter(|old| old != id))
    }
}
