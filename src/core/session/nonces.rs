//! The nonces that were signed lately: none is signed twice.
//!
//! A coordinator makes a fresh one for each connection. One that comes again was recorded, or is another coordinator's.

use std::collections::VecDeque;

/// Nonces that are remembered: 256 KiB at most.
const REMEMBERED: usize = 1024;

/// The last [`REMEMBERED`] nonces that were signed. Outlives connections.
#[derive(Clone, Debug, Default)]
pub struct SignedNonces(VecDeque<Box<[u8]>>);

impl SignedNonces {
    /// Notes a nonce that is about to be signed. False where it was noted before: then it must not be.
    #[must_use]
    pub fn note(&mut self, nonce: &[u8]) -> bool {
        if self.0.iter().any(|known| **known == *nonce) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(nonce.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_noted_once_and_the_last_thousand_are_remembered() {
        let mut nonces = SignedNonces::default();
        let nonce = |number: usize| number.to_be_bytes();
        for number in 0..5 * REMEMBERED {
            assert!(nonces.note(&nonce(number)));
            assert!(!nonces.note(&nonce(number)));
            assert!(!nonces.note(&nonce((number + 1).saturating_sub(REMEMBERED))), "the oldest that is remembered");
        }
        assert_eq!(nonces.0.len(), REMEMBERED);
        assert!(nonces.note(&nonce(0)), "too long ago");
    }
}
