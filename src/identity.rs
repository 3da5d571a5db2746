//! placeholder
use crate::messages::ids::ProviderId;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct IdentityError;
pub struct Identity;
impl Identity {
    pub fn pubkey(&self) -> [u8; 32] {
        [0; 32]
    }
    pub fn sign(&self, _: &[u8]) -> [u8; 64] {
        [0; 64]
    }
    pub fn provider_id(&self) -> Option<&ProviderId> {
        None
    }
    pub fn store_provider_id(&mut self, _: &ProviderId) -> Result<Option<ProviderId>, IdentityError> {
        Ok(None)
    }
}
