//! A map of bounded size that keeps what was used last: pure.
//!
//! Values have places in one vector, which the hash table refers to by 2 bytes, and which a list links in the order of use by 4.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// No place.
const NONE: u16 = u16::MAX;

/// The last `most` used values.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: Vec<Entry<K, V>>,
    places: HashTable<u16>,
    random: RandomState,
    newest: u16,
    oldest: u16,
    most: u16,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    newer: u16,
    older: u16,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Bytes of a value with its key, at most, when the map is full: an entry and four buckets of the hash table.
    pub const BYTES: usize = size_of::<Entry<K, V>>() + 4 * (size_of::<u16>() + 1);

    /// An empty map.
    pub fn new(most: u16) -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            random: RandomState::default(),
            newest: NONE,
            oldest: NONE,
            most: most.clamp(1, NONE),
        }
    }

    /// The value of a key, which is used.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key)?;
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
        let entry = self.entries.get_mut(usize::from(place))?;
        Some(&mut entry.value)
    }

    /// Adds a value, or replaces that of the key. The one that was used longest ago is removed for it if the map is full.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(place) = self.get_mut(&key) {
            *place = value;
            return None;
        }
        let removed = match self.entries.len() >= usize::from(self.most) {
            true => self.remove_oldest(),
            false => None,
        };
        let place = self.entries.len() as u16;
        let hash = self.random.hash_one(&key);
        let Self {
            entries,
            places,
            random,
            ..
        } = self;
        entries.push(Entry {
            key,
            value,
            newer: NONE,
            older: NONE,
        });
        let hash_of = |place: &u16| {
            let entry = entries.get(usize::from(*place));
            entry.map_or(0, |entry| random.hash_one(&entry.key))
        };
        places.insert_unique(hash, place, hash_of);
        self.link(place);
        removed
    }

    /// Removes the value that was used longest ago.
    pub fn remove_oldest(&mut self) -> Option<(K, V)> {
        self.remove_place(self.oldest)
    }

    /// Removes the value of a key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.remove_place(self.place(key)?)
    }

    /// All values, in no particular order. They are not used.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let entries = self.entries.iter_mut();
        entries.map(|entry| (&entry.key, &mut entry.value))
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<K, V>>() + self.places.allocation_size()
    }

    fn place<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<u16>
    where
        K: Borrow<Q>,
    {
        let is_it = |place: &u16| {
            let entry = self.entries.get(usize::from(*place));
            entry.is_some_and(|entry| entry.key.borrow() == key)
        };
        self.places.find(self.random.hash_one(key), is_it).copied()
    }

    fn remove_place(&mut self, place: u16) -> Option<(K, V)> {
        let last = self.entries.len().checked_sub(1)? as u16;
        let hash = self.hash_at(place)?;
        if let Ok(bucket) = self.places.find_entry(hash, |other| *other == place) {
            bucket.remove();
        }
        self.unlink(place);
        if place != last {
            // The last entry moves to the place.
            let hash = self.hash_at(last)?;
            if let Some(moved) = self.places.find_mut(hash, |other| *other == last) {
                *moved = place;
            }
            let entry = self.entries.get(usize::from(last))?;
            let (newer, older) = (entry.newer, entry.older);
            self.set_older(newer, place);
            self.set_newer(older, place);
        }
        let Entry { key, value, .. } = self.entries.swap_remove(usize::from(place));
        Some((key, value))
    }

    fn hash_at(&self, place: u16) -> Option<u64> {
        let entry = self.entries.get(usize::from(place))?;
        Some(self.random.hash_one(&entry.key))
    }

    /// Makes an unlinked entry the newest.
    fn link(&mut self, place: u16) {
        let older = self.newest;
        if let Some(entry) = self.entries.get_mut(usize::from(place)) {
            entry.newer = NONE;
            entry.older = older;
        }
        self.set_newer(older, place);
        self.newest = place;
    }

    fn unlink(&mut self, place: u16) {
        let Some(entry) = self.entries.get(usize::from(place)) else {
            return;
        };
        let (newer, older) = (entry.newer, entry.older);
        self.set_older(newer, older);
        self.set_newer(older, newer);
    }

    /// Sets the older neighbour of an entry, or the newest entry.
    fn set_older(&mut self, of: u16, older: u16) {
        match self.entries.get_mut(usize::from(of)) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Sets the newer neighbour of an entry, or the oldest entry.
    fn set_newer(&mut self, of: u16, newer: u16) {
        match self.entries.get_mut(usize::from(of)) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn last_used_values_are_kept_and_others_are_dropped(
            acts in prop::collection::vec((0u8..8, 0u8..20), 0..200),
        ) {
            let mut recent = Recent::new(4);
            // From the one that was used longest ago to the newest.
            let mut used: Vec<u8> = Vec::new();
            for (act, key) in acts {
                match act {
                    0..3 => {
                        let is_there = used.contains(&key);
                        let removed = recent.insert(key, key);
                        let full = !is_there && used.len() == 4;
                        let oldest = full.then(|| used.remove(0));
                        prop_assert_eq!(removed, oldest.map(|key| (key, key)));
                        used.retain(|other| *other != key);
                        used.push(key);
                    }
                    3 => {
                        let oldest = (!used.is_empty()).then(|| used.remove(0));
                        prop_assert_eq!(recent.remove_oldest(), oldest.map(|key| (key, key)));
                    }
                    4 => {
                        let is_there = used.contains(&key);
                        prop_assert_eq!(recent.remove(&key), is_there.then_some((key, key)));
                        used.retain(|other| *other != key);
                    }
                    _ => {
                        let found = recent.get_mut(&key).copied();
                        prop_assert_eq!(found, used.contains(&key).then_some(key));
                        if found.is_some() {
                            used.retain(|other| *other != key);
                            used.push(key);
                        }
                    }
                }
                prop_assert_eq!(recent.len(), used.len());
                prop_assert_eq!(recent.is_empty(), used.is_empty());
                let mut keys: Vec<u8> = recent.iter_mut().map(|(key, _)| *key).collect();
                keys.sort_unstable();
                let mut sorted = used.clone();
                sorted.sort_unstable();
                prop_assert_eq!(keys, sorted);
            }
        }
    }

    #[test]
    fn full_map_takes_the_bytes_of_its_values() {
        let mut recent = Recent::new(256);
        for number in 0..10_000u64 {
            recent.insert(number, number);
        }
        assert_eq!(recent.len(), 256);
        // The hash table ends with a group of control bytes.
        assert!(recent.bytes() <= 256 * Recent::<u64, u64>::BYTES + 32);
    }
}
