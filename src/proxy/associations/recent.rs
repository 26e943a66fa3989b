//! A map of bounded size that keeps what was used recently: pure.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

use foldhash::fast::RandomState;

/// At least the last `most` used values, and at most twice as many. When `most` are young, they become old and the old ones
/// are dropped; an old value that is used becomes young.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    most: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// An empty map.
    pub fn new(most: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            most: most.max(1),
        }
    }

    /// The value of a key, which is used.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Drops the values for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.young.retain(&mut keep);
        self.old.retain(keep);
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn last_used_values_are_kept_and_others_are_dropped(
            acts in prop::collection::vec((any::<bool>(), 0u8..20), 0..200),
        ) {
            let mut recent = Recent::new(4);
            let mut used: Vec<u8> = Vec::new();
            for (inserts, key) in acts {
                if inserts {
                    recent.insert(key, key);
                    used.retain(|other| *other != key);
                    used.push(key);
                } else if let Some(value) = recent.get_mut(&key) {
                    prop_assert_eq!(*value, key);
                    used.retain(|other| *other != key);
                    used.push(key);
                }
                prop_assert!(recent.len() <= 8);
                let keys: Vec<u8> = recent.young.keys().chain(recent.old.keys()).copied().collect();
                for last in used.iter().rev().take(4) {
                    prop_assert!(keys.contains(last));
                }
            }
            recent.retain(|key, _| key % 2 == 0);
            prop_assert!(recent.young.keys().chain(recent.old.keys()).all(|key| key % 2 == 0));
        }
    }
}
