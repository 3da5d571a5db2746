//! The key and its text form. No files here.

use ed25519::pkcs8::spki::der::pem::LineEnding;
use ed25519::pkcs8::{ALGORITHM_OID, EncodePrivateKey, KeypairBytes, PrivateKeyInfoRef, SecretDocument};
use ed25519_dalek::SigningKey;
use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use zeroize::Zeroizing;

use super::error::KeyFault;

/// A new key from the system's random numbers.
pub(super) fn generate() -> Result<SigningKey, SysError> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(seed.as_mut())?;
    Ok(SigningKey::from_bytes(&seed))
}

/// As PKCS#8 in PEM. Without the public key, which only version 2 of PKCS#8 can hold, and which openssl can't read.
pub(crate) fn to_pem(key: &SigningKey) -> Result<Zeroizing<String>, KeyFault> {
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyFault::Damaged)
}

/// From PKCS#8 in PEM, with or without the public key.
pub(crate) fn from_pem(pem: &[u8]) -> Result<SigningKey, KeyFault> {
    let text = std::str::from_utf8(pem).map_err(|_| KeyFault::NotPem)?;
    if text.trim().is_empty() {
        return Err(KeyFault::Empty);
    }
    let (label, document) = SecretDocument::from_pem(text.trim_start()).map_err(|_| not_der(text))?;
    match label {
        "PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => return Err(KeyFault::Encrypted),
        _ => return Err(KeyFault::NotAPrivateKey),
    }
    let info = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyFault::Damaged)?;
    if info.algorithm.oid != ALGORITHM_OID {
        return Err(KeyFault::OtherAlgorithm);
    }
    let pair = KeypairBytes::try_from(info).map_err(|_| KeyFault::Damaged)?;
    let key = SigningKey::from_bytes(&pair.secret_key);
    match &pair.public_key {
        Some(public) if public.to_bytes() != key.verifying_key().to_bytes() => Err(KeyFault::Mismatch),
        _ => Ok(key),
    }
}

/// What is wrong with a text of which no DER could be made: whole PEM of a kind that holds none, such as OpenSSH's, is
/// not damage.
fn not_der(text: &str) -> KeyFault {
    let label =
        text.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).map(|(label, _)| label);
    match label {
        Some(label) if label != "PRIVATE KEY" && text.trim().ends_with(&format!("-----END {label}-----")) => {
            KeyFault::NotAPrivateKey
        }
        _ => KeyFault::NotPem,
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
