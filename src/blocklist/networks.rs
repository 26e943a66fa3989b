//! Networks of one address family, with lookup of the narrowest network around an address.
//!
//! Most entries are single addresses. They are in a hash map: one step. Wider networks are in a hash map too while the list has
//! networks of few lengths, with a step for each length: a step costs a cache miss or two, however long the list is. With more
//! lengths they are in a trie of 5 bits a level (`prefix_trie`, after Eatherton, Dittia and Varghese, "Tree bitmap", 2004): a lookup
//! reads at most 7 nodes for IPv4 and 26 for IPv6. The deepest nodes cost a cache miss each, so single addresses are not among them.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

use foldhash::fast::RandomState;
use prefix_trie::{Prefix, PrefixMap};

/// Most lengths of networks in a hash map. With a million IPv6 networks of one length, a lookup of an address takes 25 ns, and 123 ns
/// in the trie (`cargo bench --bench blocklist IPv6/policy`).
const HASHED_LENGTHS: usize = 3;

/// Values by network. `A` is the integer type of addresses.
#[derive(Debug)]
pub(super) struct Networks<A, T>
where
    (A, u8): Prefix,
{
    /// Hashed with a random seed, so that no list can be crafted to collide.
    addresses: HashMap<A, T, RandomState>,
    wider: Wider<A, T>,
}

/// Networks of more than one address.
#[derive(Debug)]
enum Wider<A, T>
where
    (A, u8): Prefix,
{
    Hashed {
        networks: HashMap<(A, u8), T, RandomState>,
        /// Their lengths, the longest first.
        lengths: Vec<u8>,
    },
    Trie(Box<PrefixMap<(A, u8), T>>),
}

impl<A, T> Default for Networks<A, T>
where
    (A, u8): Prefix,
{
    fn default() -> Self {
        Self {
            addresses: HashMap::default(),
            wider: Wider::Hashed {
                networks: HashMap::default(),
                lengths: Vec::new(),
            },
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
            self.wider.put(bits, length, new, change);
        }
    }

    /// The first result of `pick` for the networks around an address, the narrowest first.
    #[inline]
    pub(super) fn narrowest<R>(&self, address: A, pick: impl Fn(&T) -> Option<R>) -> Option<R> {
        if let Some(picked) = self.addresses.get(&address).and_then(&pick) {
            return Some(picked);
        }
        match &self.wider {
            Wider::Hashed { networks, lengths } => lengths.iter().find_map(|&length| {
                let network = <(A, u8)>::from_repr_len(address, length).mask();
                networks.get(&(network, length)).and_then(&pick)
            }),
            Wider::Trie(networks) => {
                // The longest prefix nearly always decides. Walking over all prefixes takes four times as long and is the fallback.
                let whole = (address, Self::BITS);
                let (_, longest) = networks.get_lpm(&whole)?;
                pick(longest).or_else(|| networks.cover_values(&whole).filter_map(pick).last())
            }
        }
    }
}

impl<A: Copy + Eq + Hash, T> Wider<A, T>
where
    (A, u8): Prefix<R = A>,
{
    fn put(&mut self, bits: A, length: u8, new: T, change: impl FnOnce(&mut T)) {
        if let Self::Hashed { networks, lengths } = self
            && !lengths.contains(&length)
        {
            if lengths.len() < HASHED_LENGTHS {
                lengths.push(length);
                lengths.sort_unstable_by(|one, other| other.cmp(one));
            } else {
                let networks = mem::take(networks).into_iter().collect();
                *self = Self::Trie(Box::new(networks));
            }
        }
        match self {
            Self::Hashed { networks, .. } => {
                let entry = networks.entry((bits, length));
                entry.and_modify(change).or_insert(new);
            }
            Self::Trie(networks) => {
                let entry = networks.entry((bits, length));
                entry.and_modify(change).or_insert(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// With few lengths and with many, whatever the order of insertion.
        #[test]
        fn the_narrowest_network_is_found(
            networks in prop::collection::vec((0u32..64, prop::sample::select(vec![0u8, 24, 27, 28, 30, 31, 32])), 0..12),
            addresses in prop::collection::vec(0u32..80, 20),
        ) {
            let mut all = Networks::default();
            for (number, &(bits, length)) in networks.iter().enumerate() {
                let bits = <(u32, u8)>::from_repr_len(bits, length).mask();
                all.put(bits, length, vec![number], |numbers: &mut Vec<usize>| numbers.push(number));
            }
            for address in addresses {
                let around = |&&(bits, length): &&(u32, u8)| (u64::from(bits ^ address) >> (32 - length)) == 0;
                let lengths = networks.iter().filter(around).map(|&(_, length)| length);
                let expected = lengths.max();
                let found = all.narrowest(address, |numbers| numbers.first().copied());
                prop_assert_eq!(found.map(|number| networks[number].1), expected);
                // A network whose values are refused is passed over.
                let lengths = networks.iter().filter(around).map(|&(_, length)| length);
                let wider = lengths.filter(|length| Some(*length) != expected).max();
                let found = all.narrowest(address, |numbers| {
                    numbers.first().copied().filter(|number| Some(networks[*number].1) != expected)
                });
                prop_assert_eq!(found.map(|number| networks[number].1), wider);
            }
        }
    }
}
