//! The nonces that were signed recently: none is signed twice.
//!
//! A coordinator makes a new one for each connection. One that is received again was recorded, or is from another
//! coordinator.

use std::collections::VecDeque;

/// The number of remembered nonces: 256 KiB at most.
const REMEMBERED: usize = 1024;

/// The last 1024 nonces that were signed. Survives connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignedNonces(VecDeque<Box<[u8]>>);

impl SignedNonces {
    /// Records a nonce that is about to be signed. False if it was recorded before: then it must not be signed.
    #[must_use]
    pub(crate) fn note(&mut self, nonce: &[u8]) -> bool {
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
    fn a_nonce_is_recorded_once_and_the_last_thousand_are_remembered() {
        let mut nonces = SignedNonces::default();
        let nonce = |number: usize| number.to_be_bytes();
        for number in 0..5 * REMEMBERED {
            assert!(nonces.note(&nonce(number)));
            assert!(!nonces.note(&nonce(number)));
            assert!(!nonces.note(&nonce((number + 1).saturating_sub(REMEMBERED))), "the oldest remembered one");
        }
        assert_eq!(nonces.0.len(), REMEMBERED);
        assert!(nonces.note(&nonce(0)), "too long ago");
    }
}
