//! Connections by a small number that an event carries. The number includes a generation, so an event of a removed
//! connection does not reach another connection in the same slot.

/// A slot and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    slot: u32,
    generation: u32,
}

/// The generation wraps after so many.
const GENERATIONS: u32 = 1 << 24;

impl Key {
    /// The first key of a slab.
    pub const FIRST: Self = Self {
        slot: 0,
        generation: 0,
    };

    /// As a number below 2^56, so that epoll or io_uring can carry another byte with it.
    pub fn number(self) -> usize {
        ((self.generation % GENERATIONS) as usize) << 32 | self.slot as usize
    }

    /// From [`Self::number`].
    pub fn from_number(number: usize) -> Self {
        Self {
            slot: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

/// Values by their [`Key`].
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// An empty slab.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inserts the value that `make` makes of its key. Nothing is inserted if `make` fails.
    ///
    /// # Errors
    /// As `make`.
    pub fn insert<E>(&mut self, make: impl FnOnce(Key) -> Result<T, E>) -> Result<Key, E> {
        let slot = self.free.last().copied();
        let key = match slot {
            Some(slot) => Key {
                slot,
                generation: self.slots.get(slot as usize).map_or(0, |(now, _)| *now),
            },
            None => Key {
                slot: self.slots.len() as u32,
                generation: 0,
            },
        };
        let thing = make(key)?;
        if slot.is_some() {
            self.free.pop();
        } else {
            self.slots.push((0, None));
        }
        if let Some((_, place)) = self.slots.get_mut(key.slot as usize) {
            *place = Some(thing);
        }
        Ok(key)
    }

    /// The value with this key.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.slot as usize) {
            Some((generation, thing)) if *generation == key.generation => thing.as_ref(),
            _ => None,
        }
    }

    /// The value with this key, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.slot as usize) {
            Some((generation, thing)) if *generation == key.generation => thing.as_mut(),
            _ => None,
        }
    }

    /// Removes the value with this key.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, thing) = self.slots.get_mut(key.slot as usize)?;
        if *generation != key.generation {
            return None;
        }
        let thing = thing.take()?;
        *generation = (*generation + 1) % GENERATIONS;
        self.free.push(key.slot);
        Some(thing)
    }

    /// The keys of all values.
    pub fn keys(&self) -> Vec<Key> {
        let slots = self.slots.iter().zip(0u32..);
        slots
            .filter(|((_, thing), _)| thing.is_some())
            .map(|(&(generation, _), slot)| Key { slot, generation })
            .collect()
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn a_key_finds_its_value_until_it_is_removed(acts in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200)) {
            let mut slab = Slab::new();
            let mut there: HashMap<usize, u32> = HashMap::new();
            let mut gone = Vec::new();
            for (number, (insert, which)) in (0u32..).zip(acts) {
                if insert || there.is_empty() {
                    let key = slab.insert(|_| Ok::<_, ()>(number)).unwrap();
                    prop_assert!(!gone.contains(&key.number()));
                    prop_assert!(there.insert(key.number(), number).is_none());
                } else {
                    let mut keys: Vec<_> = there.keys().copied().collect();
                    keys.sort_unstable();
                    let key = *which.get(&keys);
                    prop_assert_eq!(slab.remove(Key::from_number(key)), there.remove(&key));
                    gone.push(key);
                }
                prop_assert_eq!(slab.len(), there.len());
                prop_assert_eq!(slab.keys().len(), there.len());
                for (key, number) in &there {
                    prop_assert_eq!(slab.get_mut(Key::from_number(*key)), Some(&mut number.clone()));
                }
                for key in &gone {
                    prop_assert_eq!(slab.get_mut(Key::from_number(*key)), None);
                    prop_assert_eq!(slab.remove(Key::from_number(*key)), None);
                }
            }
        }
    }

    #[test]
    fn a_value_that_cannot_be_made_occupies_no_slot() {
        let mut slab: Slab<()> = Slab::new();
        assert_eq!(slab.insert(|_| Err("no")), Err("no"));
        assert!(slab.is_empty());
        assert!(slab.keys().is_empty());
    }
}
