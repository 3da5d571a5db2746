//! What an agent signs with the extension `auth2`: a statement that names the coordinator. Both ends of the wire make it.
//!
//! A signature over the bare nonce, as in the base protocol, says nothing about whom it is for. So a coordinator could pass the
//! challenge of another one on to an agent, and its signature back.

/// The bytes of the client's nonce.
pub(crate) const CLIENT_NONCE: usize = 32;

/// What a signature is for. An agent signs no other bytes that begin like this.
const PURPOSE: &[u8] = b"outpost/auth/v2\0";

/// The bytes to sign: the purpose, then each part after its length in four bytes, big endian.
///
/// `coordinator` is its `host:port` as in [`HostPort`](crate::messages::host_port::HostPort), `nonce` that of its challenge.
pub(crate) fn statement(coordinator: &str, nonce: &[u8], client_nonce: &[u8; CLIENT_NONCE]) -> Vec<u8> {
    let mut bytes = PURPOSE.to_vec();
    for part in [coordinator.as_bytes(), nonce, client_nonce] {
        // No part is near that long; a longer one would not verify.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

/// Whether bytes begin like a statement. As the nonce of a base challenge they must not be signed: the signature would be one of
/// the statement.
pub(crate) fn is_like_a_statement(bytes: &[u8]) -> bool {
    bytes.starts_with(PURPOSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_the_bytes_of_the_golden_file() {
        let golden = include_str!("../../../tests/golden/wire/auth_response_auth2.hex");
        let hex: String = statement("coordinator.example:443", b"0123456789abcdef0123456789abcdef", &[9; 32])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, golden.split_whitespace().collect::<String>());
    }

    #[test]
    fn parts_that_are_cut_elsewhere_make_another_statement() {
        let one = statement("a:1", b"2", &[0; 32]);
        assert_ne!(one, statement("a:", b"12", &[0; 32]));
        assert_ne!(one, statement("a:12", b"", &[0; 32]));
        assert_eq!(one.len(), 16 + 4 + 3 + 4 + 1 + 4 + 32);
    }
}
