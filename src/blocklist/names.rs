//! Entries by name, with lookup of a name and its domains.
//!
//! A name is a part of the text of its entry, and an element of the hash table is eight bytes: the position of the name and the
//! number of the entry. So a lookup misses the cache as often as one in a map from boxed names does. A million names of 26
//! bytes take 46 MB with their texts and lines, and 53 MB while they are read; such a map and the content of the file beside it
//! took 158 MB and 212 MB. Lookups take 1.04, 1.07 and 1.08 of the time with 1,000, 100,000 and a million names (least of 4
//! interleaved rounds on a busy machine).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::chain::{Link, Others};
use super::ports::Ports;
use super::texts::Texts;
use crate::destination::Name;

/// Entries by name. Most names are in the texts of the entries, which are an argument of each method.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: HashTable<Element>,
    /// Random, so that no list can be crafted to collide.
    hasher: RandomState,
    chains: Vec<Chain>,
    others: Others<Scope>,
    /// Label counts of the domains whose subdomains match: bit 2 for `*.example.com`.
    depths: u128,
}

/// The scope of an entry.
#[derive(Debug, Clone, Copy)]
struct Scope {
    ports: Ports,
    /// Whether subdomains match.
    below: bool,
}

impl Scope {
    fn covers(self, other: Self) -> bool {
        (self.below || !other.below) && self.ports.covers(other.ports)
    }
}

/// A name with several entries, with ports, or in another spelling than its text.
#[derive(Debug)]
struct Chain {
    name: Box<str>,
    first: Link<Scope>,
}

/// The entries of a name.
///
/// | bits | one entry, for all ports | chain |
/// |---|---|---|
/// | 0 to 31 | position of the name in [`Texts`] | its number |
/// | 32 to 61 | number of the entry | |
/// | 62 | whether subdomains match | |
/// | 63 | 0 | 1 |
#[derive(Debug, Clone, Copy)]
struct Element(u64);

const CHAIN: u64 = 1 << 63;
const BELOW: u64 = 1 << 62;
const ENTRY_BITS: u32 = 30;

impl Names {
    /// Adds an entry, whose text is the last one of `texts`.
    pub(super) fn insert(
        &mut self,
        texts: &Texts,
        entry: usize,
        name: &Name,
        ports: Ports,
        below: bool,
    ) {
        if below {
            self.depths |= depth(name.labels());
        }
        let new = Link::new(entry, Scope { ports, below });
        let hash = self.hasher.hash_one(name.as_str());
        let chains = &mut self.chains;
        let found = self.table.find_mut(hash, |element| {
            element.is_named(name.as_str(), texts, chains)
        });
        match found {
            Some(element) => {
                let mut first = element.first(chains);
                if first.scope().covers(new.scope()) {
                    return;
                }
                self.others.add(&mut first, new, Scope::covers);
                match element.resolve() {
                    Ok(chain) => {
                        if let Some(chain) = chains.get_mut(chain) {
                            chain.first = first;
                        }
                    }
                    Err(_) => *element = Element::chain(chains, name, first),
                }
            }
            None => {
                let plain = Element::plain(texts, entry, name, new.scope());
                let element = plain.unwrap_or_else(|| Element::chain(chains, name, new));
                let (chains, hasher) = (&self.chains, &self.hasher);
                self.table.insert_unique(hash, element, |element| {
                    hasher.hash_one(element.name(texts, chains))
                });
            }
        }
    }

    /// The entry that matches a name or its nearest domain, with ports that `suit` accepts.
    ///
    /// Only domains with a listed label count are looked up, so names with a hundred labels cost no more.
    pub(super) fn find(
        &self,
        texts: &Texts,
        name: &Name,
        suit: impl Fn(Ports) -> bool,
    ) -> Option<usize> {
        let own = self.first(texts, name.as_str()).and_then(|first| {
            let suits = |own: Scope| suit(own.ports);
            self.others.earliest(&first, suits)
        });
        if own.is_some() || self.depths == 0 {
            return own;
        }
        let labels = (1..name.labels()).rev();
        let mut domains = labels
            .zip(name.domains())
            .filter(|(labels, _)| self.depths & depth(*labels) != 0);
        domains.find_map(|(_, domain)| {
            let first = self.first(texts, domain)?;
            let suits = |above: Scope| above.below && suit(above.ports);
            self.others.earliest(&first, suits)
        })
    }

    /// The first entry of a name.
    fn first(&self, texts: &Texts, name: &str) -> Option<Link<Scope>> {
        let hash = self.hasher.hash_one(name);
        let is_named = |element: &Element| element.is_named(name, texts, &self.chains);
        let element = self.table.find(hash, is_named)?;
        Some(element.first(&self.chains))
    }
}

impl Element {
    /// An element without a chain, if the entry needs none.
    fn plain(texts: &Texts, entry: usize, name: &Name, scope: Scope) -> Option<Self> {
        let position = texts.position(name.as_str())?;
        let position = u64::from(u32::try_from(position).ok()?);
        let entry = entry as u64;
        let below = if scope.below { BELOW } else { 0 };
        let fits = entry >> ENTRY_BITS == 0 && scope.ports == Ports::ALL;
        fits.then_some(Self(position | entry << 32 | below))
    }

    /// Adds a chain.
    fn chain(chains: &mut Vec<Chain>, name: &Name, first: Link<Scope>) -> Self {
        let number = chains.len() as u64;
        let name = name.as_str().into();
        chains.push(Chain { name, first });
        Self(number | CHAIN)
    }

    /// The number of the chain, or the position of the name.
    fn resolve(self) -> Result<usize, usize> {
        let Self(bits) = self;
        match bits & CHAIN {
            0 => Err(bits as u32 as usize),
            _ => Ok((bits & !CHAIN) as usize),
        }
    }

    #[inline]
    fn is_named(self, name: &str, texts: &Texts, chains: &[Chain]) -> bool {
        match self.resolve() {
            Err(position) => texts.has_name(position, name),
            Ok(chain) => chains.get(chain).is_some_and(|chain| *chain.name == *name),
        }
    }

    fn name<'a>(self, texts: &'a Texts, chains: &'a [Chain]) -> &'a str {
        match self.resolve() {
            Err(position) => texts.name(position),
            Ok(chain) => chains.get(chain).map_or("", |chain| &chain.name),
        }
    }

    #[inline]
    fn first(self, chains: &[Chain]) -> Link<Scope> {
        let Self(bits) = self;
        let only = || {
            let scope = Scope {
                ports: Ports::ALL,
                below: bits & BELOW != 0,
            };
            Link::new(((bits & !BELOW) >> 32) as usize, scope)
        };
        let chain = self.resolve().ok().and_then(|chain| chains.get(chain));
        chain.map_or_else(only, |chain| chain.first)
    }
}

/// The bit of a label count. A name has at most 127 labels.
fn depth(labels: usize) -> u128 {
    1 << labels.min(127)
}
