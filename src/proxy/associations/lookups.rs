//! The datagrams that wait for the address of a name: pure.
//!
//! Their number and bytes are limited, by lookup, by association and for the thread. A datagram beyond a limit is dropped.

use crate::destination::Destination;
use crate::proxy::slab::{Key, Slab};

/// Most lookups of an association at a time.
pub const LOOKUPS: usize = 16;

/// Most datagrams that wait for a lookup.
const WAITING: usize = 8;

/// Most bytes that wait in an association.
const BYTES: usize = 32 << 10;

/// Most bytes that wait in a thread.
const ALL_BYTES: usize = 8 << 20;

/// A lookup.
#[derive(Debug)]
pub struct Lookup {
    /// The association.
    pub association: Key,
    /// The header of the datagrams.
    pub header: Box<[u8]>,
    /// The destination in it.
    pub destination: Destination,
    /// The payloads that wait, with the TOS of each.
    pub waiting: Vec<(Box<[u8]>, u8)>,
}

/// The lookups of an association.
#[derive(Debug, Default)]
pub struct OfAssociation {
    keys: Vec<Key>,
    bytes: usize,
}

/// The lookups of a thread.
#[derive(Debug, Default)]
pub struct Lookups {
    all: Slab<Lookup>,
    bytes: usize,
}

impl Lookups {
    /// Adds a lookup without waiting datagrams, unless the association has too many.
    pub fn begin(
        &mut self,
        of: &mut OfAssociation,
        association: Key,
        header: &[u8],
        destination: Destination,
    ) -> Option<Key> {
        if of.keys.len() >= LOOKUPS {
            return None;
        }
        let lookup = Lookup {
            association,
            header: header.into(),
            destination,
            waiting: Vec::new(),
        };
        let key = self.all.insert(|_| Ok::<_, ()>(lookup)).ok()?;
        of.keys.push(key);
        Some(key)
    }

    /// A datagram waits for a lookup of the association. Whether there is room for it.
    pub fn wait(&mut self, of: &mut OfAssociation, key: Key, payload: &[u8], tos: u8) -> bool {
        let Some(lookup) = self.all.get_mut(key) else {
            return false;
        };
        let bytes = payload.len();
        let fits = lookup.waiting.len() < WAITING
            && of.bytes + bytes <= BYTES
            && self.bytes + bytes <= ALL_BYTES;
        if fits {
            lookup.waiting.push((payload.into(), tos));
            of.bytes += bytes;
            self.bytes += bytes;
        }
        fits
    }

    /// The association of a lookup; `None` if it has ended.
    pub fn association(&self, key: Key) -> Option<Key> {
        self.all.get(key).map(|lookup| lookup.association)
    }

    /// Removes a lookup that has an answer.
    pub fn end(&mut self, of: &mut OfAssociation, key: Key) -> Option<Lookup> {
        let lookup = self.all.remove(key)?;
        let each = lookup.waiting.iter().map(|(payload, _)| payload.len());
        let bytes: usize = each.sum();
        self.bytes -= bytes;
        of.bytes -= bytes;
        of.keys.retain(|other| *other != key);
        Some(lookup)
    }

    /// Removes the lookups of an association that has ended.
    pub fn end_all(&mut self, of: &mut OfAssociation) -> Vec<(Key, Lookup)> {
        let keys = of.keys.clone();
        let ended = keys.into_iter().map(|key| (key, self.end(of, key)));
        ended
            .filter_map(|(key, lookup)| Some((key, lookup?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waiting_datagrams_are_bounded_and_nothing_remains(
            acts in prop::collection::vec((0u8..6, 0usize..3, any::<prop::sample::Index>(), 0usize..10_000), 0..300),
        ) {
            let mut lookups = Lookups::default();
            let mut each: [OfAssociation; 3] = Default::default();
            for (act, which, place, bytes) in acts {
                let of = &mut each[which];
                match act {
                    0 | 1 => {
                        let before = of.keys.len();
                        let to = "a.test:53".parse().unwrap();
                        let key = lookups.begin(of, Key::from_number(which), &[0], to);
                        prop_assert_eq!(key.is_some(), before < LOOKUPS);
                    }
                    2..5 if !of.keys.is_empty() => {
                        let key = *place.get(&of.keys);
                        lookups.wait(of, key, &vec![0; bytes], 0);
                    }
                    _ if !of.keys.is_empty() => {
                        let key = *place.get(&of.keys);
                        prop_assert_eq!(lookups.association(key), Some(Key::from_number(which)));
                        let lookup = lookups.end(of, key).unwrap();
                        prop_assert!(lookup.waiting.len() <= WAITING);
                    }
                    _ => {}
                }
                prop_assert!(of.bytes <= BYTES);
                let sum: usize = each.iter().map(|of| of.bytes).sum();
                prop_assert_eq!(sum, lookups.bytes);
            }
            for of in &mut each {
                let all = of.keys.len();
                prop_assert_eq!(lookups.end_all(of).len(), all);
            }
            prop_assert!(lookups.all.is_empty() && lookups.bytes == 0);
        }
    }
}
