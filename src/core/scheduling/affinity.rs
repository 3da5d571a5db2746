//! Remembers which backend served a conversation last, so that the next turn is sent to the backend whose prefix cache
//! holds it.
//!
//! A conversation is recognized by the beginning of its prompt, because each turn repeats the turns before it. The value
//! that holds the prompt is hashed, together with the model's name, in prefixes of 512 bytes, 1024 bytes, and so on,
//! doubled up to 32 KiB. The longest known prefix decides: a system prompt that many conversations share is a short prefix,
//! the turns of one conversation share a longer one. A prompt of less than 512 bytes is evaluated so fast that it is not
//! remembered.
//!
//! The hashes are keyed with a random key of the process, as from `RandomState::new`. So no client can write a prompt whose
//! hash collides with that of another one to attract it to a backend. No text is kept. A collision would do little harm:
//! the result only decides among backends of equal rank.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::messages::ids::{BackendId, ModelId};

/// The lengths of the hashed prefixes, in bytes.
const LENGTHS: [usize; 7] = [512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10];
/// The most prefixes that are remembered: those of about a thousand conversations.
const REMEMBERED: usize = 16_384;
/// How long a prefix is remembered after its last use. By then a server with other work has evicted it from its cache.
const EXPIRES: Duration = Duration::from_secs(15 * 60);

/// The hashes of a prompt's prefixes, the shortest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixHashes(Vec<u64>);

/// Maps prefixes to the backend that served them last. Keeps the most recently used ones.
#[derive(Clone, Debug)]
pub(crate) struct Affinity {
    keyed: RandomState,
    served: HashMap<u64, Served>,
    /// The keys in the order of their last use.
    by_use: BTreeMap<u64, u64>,
    /// The number of uses so far.
    uses: u64,
}

#[derive(Clone, Debug)]
struct Served {
    backend: BackendId,
    at: Instant,
    /// The key's place in `by_use`.
    used: u64,
}

impl Affinity {
    /// An empty map.
    pub(crate) fn new(keyed: RandomState) -> Self {
        Self { keyed, served: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// The hashes of a prompt: the value of `messages`, `prompt` or `input`, as spelled in the request.
    pub(crate) fn prefixes(&self, model: &ModelId, prompt: &[u8]) -> PrefixHashes {
        let mut hasher = self.keyed.build_hasher();
        hasher.write(model.as_str().as_bytes());
        // This byte is not in any text, so it separates the name from the prompt.
        hasher.write_u8(0xff);
        let mut from = 0;
        let keys = LENGTHS.iter().map_while(|to| {
            hasher.write(prompt.get(from..*to)?);
            from = *to;
            Some(hasher.finish())
        });
        PrefixHashes(keys.collect())
    }

    /// The backend that last served the longest known prefix.
    pub(crate) fn backend(&self, prefixes: &PrefixHashes, now: Instant) -> Option<&BackendId> {
        let known = prefixes.0.iter().rev().find_map(|key| self.served.get(key).filter(|served| served.is_fresh(now)));
        known.map(|served| &served.backend)
    }

    /// A backend served a prompt with these prefixes.
    pub(crate) fn on_served(&mut self, prefixes: &PrefixHashes, backend: &BackendId, now: Instant) {
        for key in &prefixes.0 {
            let served = Served { backend: backend.clone(), at: now, used: self.uses };
            if let Some(old) = self.served.insert(*key, served) {
                self.by_use.remove(&old.used);
            }
            self.by_use.insert(self.uses, *key);
            self.uses += 1;
        }
        while let Some((_, key)) = self.by_use.first_key_value()
            && (self.served.len() > REMEMBERED || self.served.get(key).is_some_and(|served| !served.is_fresh(now)))
        {
            self.served.remove(key);
            self.by_use.pop_first();
        }
    }

    /// The number of remembered prefixes.
    pub(crate) fn len(&self) -> usize {
        self.served.len()
    }
}

impl Served {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < EXPIRES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn affinity() -> Affinity {
        Affinity::new(RandomState::new())
    }

    /// A prompt of so many bytes. All of them have the same beginning.
    fn prompt(len: usize, then: &str) -> Vec<u8> {
        let mut prompt = vec![b'x'; len];
        prompt.extend_from_slice(then.as_bytes());
        prompt
    }

    #[test]
    fn the_next_turn_of_a_conversation_is_sent_to_the_backend_of_the_last_one() {
        let (mut affinity, now, model) = (affinity(), epoch(), "m".into());
        let first = affinity.prefixes(&model, &prompt(600, "]"));
        assert_eq!(affinity.backend(&first, now), None);
        affinity.on_served(&first, &"a".into(), now);
        let next = affinity.prefixes(&model, &prompt(600, ", and the answer to that, and another question"));
        assert_eq!(affinity.backend(&next, now), Some(&"a".into()));
        affinity.on_served(&next, &"b".into(), now);
        assert_eq!(affinity.backend(&next, now), Some(&"b".into()));
    }

    #[test]
    fn the_longest_known_prefix_decides() {
        let (mut affinity, now, model) = (affinity(), epoch(), "m".into());
        let conversation = |who: &str, turns: usize| prompt(1024, &who.repeat(1024 * turns));
        let [ann, bob] = ["a", "b"].map(|who| affinity.prefixes(&model, &conversation(who, 1)));
        affinity.on_served(&ann, &"a".into(), now);
        affinity.on_served(&bob, &"b".into(), now);
        for who in ["a", "b"] {
            let next = affinity.prefixes(&model, &conversation(who, 3));
            assert_eq!(affinity.backend(&next, now), Some(&who.into()), "the system prompt is the same");
        }
        let third = affinity.prefixes(&model, &conversation("c", 1));
        assert_eq!(affinity.backend(&third, now), Some(&"b".into()), "who read the system prompt last");
    }

    #[test]
    fn short_prompts_other_models_and_other_processes_share_no_prefix() {
        let (one, model) = (affinity(), "m".into());
        assert_eq!(one.prefixes(&model, &prompt(511, "")), PrefixHashes::default());
        let keys = one.prefixes(&model, &prompt(100_000, ""));
        assert_eq!(keys.0.len(), LENGTHS.len());
        let differ = |other: PrefixHashes| keys.0.iter().all(|key| !other.0.contains(key));
        assert!(differ(one.prefixes(&"mx".into(), &prompt(100_000, ""))));
        assert!(differ(affinity().prefixes(&model, &prompt(100_000, ""))));
    }

    #[test]
    fn a_prefix_that_is_not_used_expires() {
        let (mut affinity, now, model) = (affinity(), epoch(), "m".into());
        let keys = affinity.prefixes(&model, &prompt(600, ""));
        affinity.on_served(&keys, &"a".into(), now);
        assert!(affinity.backend(&keys, now + EXPIRES - Duration::from_nanos(1)).is_some());
        assert_eq!(affinity.backend(&keys, now + EXPIRES), None);
        let other = affinity.prefixes(&"other".into(), &prompt(600, ""));
        affinity.on_served(&other, &"a".into(), now + EXPIRES);
        assert_eq!(affinity.len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_the_most_recently_used_prefixes_are_kept() {
        let (mut affinity, now) = (affinity(), epoch());
        let used = PrefixHashes(vec![u64::MAX]);
        for key in 0..50_000 {
            affinity.on_served(&PrefixHashes(vec![key]), &"a".into(), now);
            affinity.on_served(&used, &"b".into(), now);
        }
        assert_eq!((affinity.len(), affinity.by_use.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(affinity.backend(&used, now), Some(&"b".into()));
        assert!(affinity.backend(&PrefixHashes(vec![49_999]), now).is_some());
        assert!(affinity.backend(&PrefixHashes(vec![0]), now).is_none());
    }
}
