//! Which agents are admitted: the proof of a key, and the rules of enrollment. No sockets: the session sends the result.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use rand::Rng;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::failed_codes::FailedCodes;
use super::peer::Network;
use crate::core::session::auth2::{self, CLIENT_NONCE};
use crate::messages::host_port::HostPort;
use crate::messages::ids::ProviderId;
use crate::messages::secret::Secret;
use crate::messages::wire::{AuthResponse, Extension, Extensions};

/// The bytes that an agent must sign.
#[derive(Clone)]
pub(crate) struct Nonce([u8; 32]);

impl Nonce {
    /// An unpredictable nonce.
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The form on the wire.
    pub(crate) fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

/// An agent's public key, which is its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AgentKey(pub(crate) [u8; 32]);

impl AgentKey {
    /// The name of the key, the same after every restart: `agent-` and its first 16 hex digits.
    pub(crate) fn provider_id(&self) -> Option<ProviderId> {
        let mut name = String::from("agent-");
        for byte in self.0.iter().take(8) {
            write!(name, "{byte:02x}").ok()?;
        }
        name.parse().ok()
    }

    /// The form in the configuration.
    pub(crate) fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }
}

/// Why an agent was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmissionReason {
    /// There is neither a code nor a list.
    Open,
    /// Its key is on the list.
    Listed,
    /// It sent the code earlier in this process.
    Enrolled,
    /// It sent the code now.
    Code,
}

impl AdmissionReason {
    /// The word in logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Listed => "listed",
            Self::Enrolled => "enrolled",
            Self::Code => "code",
        }
    }
}

/// Why an agent was not admitted. The text is the `reason` of `auth_failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmissionError {
    /// Not base64 of a usable ed25519 public key.
    #[error("pubkey is not a usable ed25519 public key")]
    BadKey,
    /// Not base64 of 64 bytes, or a signature of another key or nonce.
    #[error("signature does not verify")]
    BadSignature,
    /// The extension `auth2` is agreed on, and the signature is not of a statement that names this coordinator: it names another
    /// one, is of the bare nonce, or is a bad one.
    #[error(
        "the signature is not of an auth2 statement for this coordinator: the agent must reach it by one of the names in \
         OUTPOST_COORDINATOR_HOSTS"
    )]
    BadStatement,
    /// Its key is not on the list, and it sent no code or there is none.
    #[error("not enrolled: add the public key to the coordinator's list, or send an enrollment code")]
    NotEnrolled,
    /// The code is wrong.
    #[error("enrollment code is wrong")]
    WrongCode,
    /// Codes from its network are not compared for a while.
    #[error("too many wrong enrollment codes from this address: try again in a minute")]
    TooManyAttempts,
}

/// The rules of enrollment, and the keys that have enrolled since the start.
pub(crate) struct Admission {
    /// The names by which agents reach this coordinator.
    names: Vec<HostPort>,
    listed: HashSet<AgentKey>,
    code: Option<Secret>,
    enrollment: Mutex<Enrollment>,
}

#[derive(Default)]
struct Enrollment {
    /// Grows only by agents that sent the right code.
    keys: HashSet<AgentKey>,
    failed_codes: FailedCodes,
}

impl Admission {
    /// Rules from a list of public keys and an optional code, for a coordinator with these names.
    pub(crate) fn new(listed: &[[u8; 32]], code: Option<Secret>, names: Vec<HostPort>) -> Self {
        let listed = listed.iter().copied().map(AgentKey).collect();
        Self { names, listed, code, enrollment: Mutex::default() }
    }

    /// Whether a statement of `auth2` can be checked.
    pub(crate) fn knows_its_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Checks a response to `nonce` from this network, with these extensions agreed. The signature is checked first, so that only
    /// the owner of the key learns the other results.
    pub(crate) fn admit(
        &self,
        nonce: &Nonce,
        response: &AuthResponse,
        agreed: Extensions,
        network: Network,
        now: Instant,
    ) -> Result<(AgentKey, AdmissionReason), AdmissionError> {
        let bytes: [u8; 32] = decode(&response.pubkey).ok_or(AdmissionError::BadKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| AdmissionError::BadKey)?;
        let signature: [u8; 64] = decode(&response.signature).ok_or(AdmissionError::BadSignature)?;
        let is_signed = |bytes: &[u8]| key.verify_strict(bytes, &Signature::from_bytes(&signature)).is_ok();
        if !agreed.contains(Extension::Auth2) {
            if !is_signed(&nonce.0) {
                return Err(AdmissionError::BadSignature);
            }
        } else if !self.statements(nonce, response).any(|statement| is_signed(&statement)) {
            return Err(AdmissionError::BadStatement);
        }
        let key = AgentKey(bytes);
        Ok((key, self.reason(key, response.enrollment_code.as_deref(), network, now)?))
    }

    /// The statements that the agent may have signed, one for each name of this coordinator.
    fn statements(&self, nonce: &Nonce, response: &AuthResponse) -> impl Iterator<Item = Vec<u8>> {
        let client_nonce: Option<[u8; CLIENT_NONCE]> = response.client_nonce.as_deref().and_then(decode);
        let statement =
            move |name: &HostPort| client_nonce.map(|bytes| auth2::statement(name.as_str(), &nonce.0, &bytes));
        self.names.iter().filter_map(statement)
    }

    fn reason(
        &self,
        key: AgentKey,
        sent: Option<&str>,
        network: Network,
        now: Instant,
    ) -> Result<AdmissionReason, AdmissionError> {
        if self.listed.contains(&key) {
            return Ok(AdmissionReason::Listed);
        }
        let Some(code) = &self.code else {
            return if self.listed.is_empty() { Ok(AdmissionReason::Open) } else { Err(AdmissionError::NotEnrolled) };
        };
        let mut enrollment = self.enrollment.lock().unwrap_or_else(PoisonError::into_inner);
        if enrollment.keys.contains(&key) {
            return Ok(AdmissionReason::Enrolled);
        }
        let sent = sent.ok_or(AdmissionError::NotEnrolled)?;
        if !enrollment.failed_codes.allows(network, now) {
            return Err(AdmissionError::TooManyAttempts);
        }
        if !same(code, sent) {
            enrollment.failed_codes.count(network, now);
            return Err(AdmissionError::WrongCode);
        }
        enrollment.keys.insert(key);
        Ok(AdmissionReason::Code)
    }
}

/// Compares a text with the secret, in a time that depends only on their lengths.
pub(crate) fn same(secret: &Secret, given: &str) -> bool {
    secret.reveal().as_bytes().ct_eq(given.as_bytes()).into()
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::super::peer::Peer;
    use super::*;

    fn response(key: &SigningKey, nonce: &Nonce, code: Option<&str>) -> AuthResponse {
        AuthResponse {
            pubkey: STANDARD.encode(key.verifying_key().as_bytes()),
            signature: STANDARD.encode(key.sign(&nonce.0).to_bytes()),
            agent_version: "1".into(),
            enrollment_code: code.map(Into::into),
            extensions: Extensions::NONE,
            resume: None,
            client_nonce: None,
        }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn admit(
        admission: &Admission,
        nonce: &Nonce,
        response: &AuthResponse,
    ) -> Result<(AgentKey, AdmissionReason), AdmissionError> {
        admission.admit(nonce, response, Extensions::NONE, Peer(None).network(), Instant::now())
    }

    fn reason(admission: &Admission, seed: u8, code: Option<&str>) -> Result<AdmissionReason, AdmissionError> {
        let nonce = Nonce::random(&mut rand::rng());
        admit(admission, &nonce, &response(&key(seed), &nonce, code)).map(|(_, reason)| reason)
    }

    #[test]
    fn a_signature_of_another_nonce_or_key_is_refused() {
        let admission = Admission::new(&[], None, vec![]);
        let (nonce, other) = (Nonce([1; 32]), Nonce([2; 32]));
        let good = response(&key(1), &nonce, None);
        assert_eq!(
            admit(&admission, &nonce, &good),
            Ok((AgentKey(key(1).verifying_key().to_bytes()), AdmissionReason::Open))
        );
        assert_eq!(admit(&admission, &other, &good), Err(AdmissionError::BadSignature));
        let pubkey = STANDARD.encode(key(2).verifying_key().as_bytes());
        assert_eq!(
            admit(&admission, &nonce, &AuthResponse { pubkey, ..good.clone() }),
            Err(AdmissionError::BadSignature)
        );
        assert_eq!(
            admit(&admission, &nonce, &AuthResponse { pubkey: "x".into(), ..good }),
            Err(AdmissionError::BadKey)
        );
    }

    const SEVEN: [u8; 32] = [7; 32];

    fn statement(key: &SigningKey, name: &str, nonce: &Nonce) -> AuthResponse {
        let signature = key.sign(&auth2::statement(name, &nonce.0, &SEVEN));
        AuthResponse {
            signature: STANDARD.encode(signature.to_bytes()),
            client_nonce: Some(STANDARD.encode(SEVEN)),
            ..response(key, nonce, None)
        }
    }

    #[test]
    fn with_auth2_only_a_statement_with_a_name_of_this_coordinator_admits() {
        let names = ["coordinator.example:443", "10.0.0.7:7700"];
        let admission = Admission::new(&[], None, names.map(|name| name.parse().unwrap()).into());
        let (auth2, nonce) = (Extensions::from_iter([Extension::Auth2]), Nonce([1; 32]));
        let admit = |response: &AuthResponse, agreed| {
            let admitted = admission.admit(&nonce, response, agreed, Peer(None).network(), Instant::now());
            admitted.map(|(_, reason)| reason)
        };
        for name in names {
            let good = statement(&key(1), name, &nonce);
            assert_eq!(admit(&good, auth2), Ok(AdmissionReason::Open), "{name}");
            assert_eq!(admit(&good, Extensions::NONE), Err(AdmissionError::BadSignature), "{name}");
        }
        let good = statement(&key(1), names[0], &nonce);
        let with_nonce = |client_nonce: Option<String>| AuthResponse { client_nonce, ..good.clone() };
        for (what, bad) in [
            ("another name", statement(&key(1), "other.example:443", &nonce)),
            ("another port", statement(&key(1), "coordinator.example:444", &nonce)),
            ("another challenge", statement(&key(1), names[0], &Nonce([2; 32]))),
            ("another key", AuthResponse { pubkey: response(&key(2), &nonce, None).pubkey, ..good.clone() }),
            ("another client nonce", with_nonce(Some(STANDARD.encode([8; 32])))),
            ("a short client nonce", with_nonce(Some(STANDARD.encode([7; 31])))),
            ("no client nonce", with_nonce(None)),
            (
                "the bare nonce",
                AuthResponse { client_nonce: good.client_nonce.clone(), ..response(&key(1), &nonce, None) },
            ),
        ] {
            assert_eq!(admit(&bad, auth2), Err(AdmissionError::BadStatement), "{what}");
        }
        assert_eq!(admit(&response(&key(1), &nonce, None), Extensions::NONE), Ok(AdmissionReason::Open));
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut pubkey = [0; 32];
        pubkey[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let forged = AuthResponse {
            pubkey: STANDARD.encode(pubkey),
            signature: STANDARD.encode(signature),
            agent_version: String::new(),
            enrollment_code: None,
            extensions: Extensions::NONE,
            resume: None,
            client_nonce: None,
        };
        let result = admit(&Admission::new(&[], None, vec![]), &Nonce([7; 32]), &forged);
        assert_eq!(result, Err(AdmissionError::BadSignature));
    }

    #[test]
    fn a_code_enrolls_once_and_is_not_needed_again() {
        let admission = Admission::new(&[], Some(Secret::new("open sesame")), vec![]);
        assert_eq!(reason(&admission, 1, None), Err(AdmissionError::NotEnrolled));
        assert_eq!(reason(&admission, 1, Some("open barley")), Err(AdmissionError::WrongCode));
        assert_eq!(reason(&admission, 1, Some("open sesame")), Ok(AdmissionReason::Code));
        assert_eq!(reason(&admission, 1, None), Ok(AdmissionReason::Enrolled));
        assert_eq!(reason(&admission, 2, None), Err(AdmissionError::NotEnrolled));
    }

    #[test]
    fn after_many_wrong_codes_a_network_can_not_enroll_for_a_minute() {
        let listed = [key(1).verifying_key().to_bytes()];
        let admission = Admission::new(&listed, Some(Secret::new("open sesame")), vec![]);
        assert_eq!(reason(&admission, 2, Some("open sesame")), Ok(AdmissionReason::Code));
        let guess = || reason(&admission, 3, Some("open barley"));
        let wrong =
            std::iter::repeat_with(guess).take(1000).take_while(|result| *result == Err(AdmissionError::WrongCode));
        assert_eq!(wrong.count(), 30);
        assert_eq!(reason(&admission, 3, Some("open sesame")), Err(AdmissionError::TooManyAttempts));
        // Known agents and agents of other networks are not affected.
        assert_eq!(reason(&admission, 1, None), Ok(AdmissionReason::Listed));
        assert_eq!(reason(&admission, 2, None), Ok(AdmissionReason::Enrolled));
        let nonce = Nonce([1; 32]);
        let elsewhere = Peer(Some(([192, 0, 2, 1], 1).into())).network();
        let response = response(&key(4), &nonce, Some("open sesame"));
        let result = admission.admit(&nonce, &response, Extensions::NONE, elsewhere, Instant::now());
        assert_eq!(result.map(|(_, reason)| reason), Ok(AdmissionReason::Code));
    }

    #[test]
    fn a_listed_key_needs_no_code_and_a_list_without_a_code_excludes_all_other_keys() {
        let listed = [key(1).verifying_key().to_bytes()];
        let with_code = Admission::new(&listed, Some(Secret::new("c")), vec![]);
        assert_eq!(reason(&with_code, 1, None), Ok(AdmissionReason::Listed));
        let alone = Admission::new(&listed, None, vec![]);
        assert_eq!(reason(&alone, 1, None), Ok(AdmissionReason::Listed));
        assert_eq!(reason(&alone, 2, Some("c")), Err(AdmissionError::NotEnrolled));
    }

    #[test]
    fn the_provider_id_depends_only_on_the_key() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(AgentKey(bytes).provider_id().unwrap().as_str(), "agent-0123456789abcdef");
    }
}
