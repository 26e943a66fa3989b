//! The entries of some lists, and which of them matches.
//!
//! Ranges are cut into prefixes, for a trie of 5 bits a step (`prefix_trie`, after Eatherton, Varghese and Dittia,
//! "Tree bitmap", 2004): a lookup reads at most 7 nodes for IPv4 and 26 for IPv6, however long the list is. Names
//! are in hash maps, and every domain above a name is looked up for `*.domain`. Of several entries
//! that match, the answer is the narrowest, and of those about the same, the first listed. Looking up allocates nothing.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use prefix_trie::{Prefix, PrefixMap};

use super::entry::{Entry, Subject};
use super::ports::Ports;
use crate::host::Name;

/// Entries by what they are about. An entry is known by its number, in the order of insertion.
#[derive(Debug, Default)]
pub struct Index {
    entries: usize,
    v4: PrefixMap<Ipv4Net, usize>,
    v6: PrefixMap<Ipv6Net, usize>,
    names: HashMap<Box<str>, usize>,
    below: HashMap<Box<str>, usize>,
    /// Where each chain of entries about the same thing begins, with the last one. The maps lead here.
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    entry: usize,
    ports: Ports,
    /// The link to an earlier entry.
    earlier: Option<usize>,
}

impl Index {
    /// Adds an entry, and gives its number.
    pub fn insert(&mut self, entry: Entry) -> usize {
        let number = self.entries;
        self.entries += 1;
        let mut chain = Chain {
            links: &mut self.links,
            entry: number,
            ports: entry.ports,
        };
        match entry.subject {
            Subject::V4(first, last) => {
                for network in Ipv4Subnets::new(first, last, 0) {
                    let head = self.v4.get(&network).copied();
                    if let Some(head) = chain.extend(head) {
                        self.v4.insert(network, head);
                    }
                }
            }
            Subject::V6(first, last) => {
                for network in Ipv6Subnets::new(first, last, 0) {
                    let head = self.v6.get(&network).copied();
                    if let Some(head) = chain.extend(head) {
                        self.v6.insert(network, head);
                    }
                }
            }
            Subject::Name(name) => chain.extend_name(&mut self.names, &name),
            Subject::Below(name) => chain.extend_name(&mut self.below, &name),
        }
        number
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The entry about this address whose ports suit.
    pub fn address(&self, address: IpAddr, suit: impl Fn(Ports) -> bool) -> Option<usize> {
        match address {
            IpAddr::V4(address) => self.covering(&self.v4, &address.into(), suit),
            IpAddr::V6(address) => self.covering(&self.v6, &address.into(), suit),
        }
    }

    /// The longest prefix nearly always decides, and walking over all of them takes four times as long: that
    /// is for where its entries are about other ports.
    fn covering<P: Prefix>(
        &self,
        networks: &PrefixMap<P, usize>,
        address: &P,
        suit: impl Fn(Ports) -> bool,
    ) -> Option<usize> {
        let first = |head: &usize| self.first(*head, &suit);
        let (_, longest) = networks.get_lpm(address)?;
        first(longest).or_else(|| networks.cover_values(address).filter_map(first).last())
    }

    /// The entry about this name, or the nearest domain it is in, whose ports suit.
    pub fn name(&self, name: &Name, suit: impl Fn(Ports) -> bool) -> Option<usize> {
        let first = |head: &usize| self.first(*head, &suit);
        let own = self.names.get(name.as_str()).and_then(first);
        if own.is_some() || self.below.is_empty() {
            return own;
        }
        let mut domains = name.domains().filter_map(|domain| self.below.get(domain));
        domains.find_map(first)
    }

    /// The earliest entry of a chain whose ports suit.
    fn first(&self, head: usize, suit: impl Fn(Ports) -> bool) -> Option<usize> {
        let follow = |link: &&Link| self.links.get(link.earlier?);
        let chain = std::iter::successors(self.links.get(head), follow);
        let suiting = chain.filter(|link| suit(link.ports));
        suiting.last().map(|link| link.entry)
    }
}

/// An entry on its way into the chains of all that it is about.
struct Chain<'a> {
    links: &'a mut Vec<Link>,
    entry: usize,
    ports: Ports,
}

impl Chain<'_> {
    /// The new head of a chain, unless its head is about every port already: then nothing can add to it. This
    /// keeps a list that repeats itself from making chains.
    fn extend(&mut self, head: Option<usize>) -> Option<usize> {
        let about_all = |head: usize| {
            self.links
                .get(head)
                .is_some_and(|link| link.ports == Ports::ALL)
        };
        if head.is_some_and(about_all) {
            return None;
        }
        self.links.push(Link {
            entry: self.entry,
            ports: self.ports,
            earlier: head,
        });
        Some(self.links.len() - 1)
    }

    fn extend_name(&mut self, names: &mut HashMap<Box<str>, usize>, name: &Name) {
        let head = names.get(name.as_str()).copied();
        if let Some(head) = self.extend(head) {
            names.insert(name.as_str().into(), head);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few addresses, so that entries meet; the ends of the space among them.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..64).prop_map(|low| IpAddr::V4((0xc000_0200 | low).into())),
            (0u32..8).prop_map(|low| IpAddr::V4(low.into())),
            (0u32..8).prop_map(|low| IpAddr::V4((u32::MAX - low).into())),
            (0u128..64).prop_map(|low| IpAddr::V6((0x2001_0db8 << 96 | low).into())),
            (0u128..8).prop_map(|low| IpAddr::V6((u128::MAX - low).into())),
        ]
    }

    fn subject() -> impl Strategy<Value = Subject> {
        let range = (address(), address()).prop_filter_map("one family", |(one, other)| {
            Subject::range(one.min(other), one.max(other))
        });
        let network = (address(), 0u8..=128).prop_filter_map("too long", |(address, length)| {
            let network = ipnet::IpNet::new(address, length).ok()?;
            Subject::range(network.network(), network.broadcast())
        });
        prop_oneof![
            range,
            network,
            name().prop_map(Subject::Name),
            name().prop_map(Subject::Below),
        ]
    }

    fn name() -> impl Strategy<Value = Name> {
        "([ab]\\.){0,3}[ab]".prop_map(|text| text.parse().unwrap())
    }

    fn ports() -> impl Strategy<Value = Ports> {
        prop_oneof![
            Just(Ports::ALL),
            (1u16..5).prop_map(Ports::one),
            (1u16..5, 0u16..5).prop_map(|(first, more)| {
                Ports::parse(&format!("{first}-{}", first + more)).unwrap()
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_scan_of_the_list_finds(
            entries in prop::collection::vec((subject(), ports()), 0..40),
            addresses in prop::collection::vec(address(), 20),
            names in prop::collection::vec(name(), 20),
            asked in ports(),
        ) {
            let mut index = Index::default();
            for (subject, ports) in entries.clone() {
                index.insert(Entry { subject, ports });
            }
            for suit in [|own: Ports, asked| own.overlaps(asked), |own: Ports, asked| own.covers(asked)] {
                for &address in &addresses {
                    let matches = |(subject, ports): &(Subject, Ports)| subject.has(address) && suit(*ports, asked);
                    let found = index.address(address, |own| suit(own, asked));
                    prop_assert_eq!(found.is_some(), entries.iter().any(matches));
                    prop_assert!(found.is_none_or(|number| matches(&entries[number])));
                }
                for name in &names {
                    let matches = |(subject, ports): &(Subject, Ports)| subject.names(name) && suit(*ports, asked);
                    let found = index.name(name, |own| suit(own, asked));
                    prop_assert_eq!(found.is_some(), entries.iter().any(matches));
                    prop_assert!(found.is_none_or(|number| matches(&entries[number])));
                }
            }
        }
    }

    #[test]
    fn the_narrowest_entry_answers_and_of_the_same_the_first() {
        let mut index = Index::default();
        for text in [
            "192.0.2.0/24",
            "192.0.2.1:80",
            "192.0.2.1:80-90",
            "192.0.2.0/31",
            "*.example",
            "*.b.example",
            "a.b.example:80",
        ] {
            index.insert(Entry::parse(text).unwrap());
        }
        let at = |address: &str, port| {
            let address = address.parse().unwrap();
            index.address(address, |own| own.covers(Ports::one(port)))
        };
        assert_eq!(at("192.0.2.1", 80), Some(1));
        assert_eq!(at("192.0.2.1", 81), Some(2));
        assert_eq!(at("192.0.2.1", 443), Some(3));
        assert_eq!(at("192.0.2.2", 80), Some(0));
        let named = |name: &str, port| {
            let name: Name = name.parse().unwrap();
            index.name(&name, |own| own.covers(Ports::one(port)))
        };
        assert_eq!(named("a.b.example", 80), Some(6));
        assert_eq!(named("a.b.example", 81), Some(5));
        assert_eq!(named("b.example", 80), Some(4));
    }

    #[test]
    fn a_list_that_repeats_itself_makes_no_chain() {
        let mut index = Index::default();
        for _ in 0..1_000 {
            index.insert(Entry::parse("192.0.2.1").unwrap());
        }
        assert_eq!((index.len(), index.links.len()), (1_000, 1));
    }
}
