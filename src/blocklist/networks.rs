//! Networks of one address family, with lookup of the narrowest network around an address.
//!
//! Most entries are single addresses. They are in a hash map: one step. Wider networks are in a trie of 5 bits a level
//! (`prefix_trie`, after Eatherton, Dittia and Varghese, "Tree bitmap", 2004): a lookup reads at most 7 nodes for IPv4 and 26 for
//! IPv6, whatever the length of the list. The deepest nodes cost a cache miss each, so single addresses are not among them.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use prefix_trie::{Prefix, PrefixMap};

/// Values by network. `A` is the integer type of addresses.
#[derive(Debug)]
pub(super) struct Networks<A, T>
where
    (A, u8): Prefix,
{
    /// Hashed with a random seed, so that no list can be crafted to collide.
    addresses: HashMap<A, T, RandomState>,
    wider: PrefixMap<(A, u8), T>,
}

impl<A, T> Default for Networks<A, T>
where
    (A, u8): Prefix,
{
    fn default() -> Self {
        Self {
            addresses: HashMap::default(),
            wider: PrefixMap::default(),
        }
    }
}

impl<A: Copy + Eq + Hash, T> Networks<A, T>
where
    (A, u8): Prefix<R = A>,
{
    /// Bits of an address, at most 128.
    const BITS: u8 = (size_of::<A>() * 8) as u8;

    /// Inserts a value for a network, or changes the existing one.
    pub(super) fn put(&mut self, bits: A, length: u8, new: T, change: impl FnOnce(&mut T)) {
        if length == Self::BITS {
            let entry = self.addresses.entry(bits);
            entry.and_modify(change).or_insert(new);
        } else {
            let entry = self.wider.entry((bits, length));
            entry.and_modify(change).or_insert(new);
        }
    }

    /// The first result of `pick` for the networks around an address, the narrowest first.
    pub(super) fn narrowest<R>(&self, address: A, pick: impl Fn(&T) -> Option<R>) -> Option<R> {
        if let Some(picked) = self.addresses.get(&address).and_then(&pick) {
            return Some(picked);
        }
        // The longest prefix nearly always decides. Walking over all prefixes takes four times as long and is the fallback.
        let whole = (address, Self::BITS);
        let (_, longest) = self.wider.get_lpm(&whole)?;
        pick(longest).or_else(|| self.wider.cover_values(&whole).filter_map(pick).last())
    }
}
