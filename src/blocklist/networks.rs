//! The networks of one address family, and the narrowest one that an address is in.
//!
//! Most of what lists hold is single addresses. Those are in a hash map, one step away; wider networks are in a trie of 5
//! bits a step (`prefix_trie`, after Eatherton, Dittia and Varghese, "Tree bitmap", 2004): a lookup reads at most 7
//! nodes for IPv4 and 26 for IPv6, however long the list is. The deepest ones are a cache miss each, which is why
//! single addresses are not among them.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use prefix_trie::{Prefix, PrefixMap};

/// Values by network. `A` is an address's bits.
#[derive(Debug)]
pub(super) struct Networks<A, T>
where
    (A, u8): Prefix,
{
    /// Hashed with a random seed: nobody can write a list whose addresses collide.
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
    /// How many bits an address has; 128 at most.
    const BITS: u8 = (size_of::<A>() * 8) as u8;

    /// Puts a value at a network, or changes what is there.
    pub(super) fn put(&mut self, bits: A, length: u8, new: T, change: impl FnOnce(&mut T)) {
        if length == Self::BITS {
            let entry = self.addresses.entry(bits);
            entry.and_modify(change).or_insert(new);
        } else {
            let entry = self.wider.entry((bits, length));
            entry.and_modify(change).or_insert(new);
        }
    }

    /// What `pick` makes of the narrowest network around an address where it makes anything.
    pub(super) fn narrowest<R>(&self, address: A, pick: impl Fn(&T) -> Option<R>) -> Option<R> {
        if let Some(picked) = self.addresses.get(&address).and_then(&pick) {
            return Some(picked);
        }
        // The longest prefix nearly always decides, and walking over all of them takes four times as long: that is
        // for where nothing is made of it.
        let whole = (address, Self::BITS);
        let (_, longest) = self.wider.get_lpm(&whole)?;
        pick(longest).or_else(|| self.wider.cover_values(&whole).filter_map(pick).last())
    }
}
