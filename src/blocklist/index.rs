//! Index of entries by subject.
//!
//! Ranges are split into prefixes for `networks`; names are in `names`. The narrowest matching entry wins; among entries with
//! one subject, the first one listed (`chain`). Lookups allocate nothing.

use std::net::IpAddr;

use ipnet::{Ipv4Subnets, Ipv6Subnets};

use super::chain::{Link, Others};
use super::entry::{Entry, Subject};
use super::names::Names;
use super::networks::Networks;
use super::ports::Ports;
use super::texts::Texts;
use crate::destination::Name;

/// Entries by subject. An entry is identified by its number, in the order of insertion.
#[derive(Debug, Default)]
pub struct Index {
    texts: Texts,
    v4: Networks<u32, Link<Ports>>,
    v6: Networks<u128, Link<Ports>>,
    other_addresses: Others<Ports>,
    names: Names,
}

impl Index {
    /// Adds an entry with its text and returns its number.
    pub fn insert(&mut self, text: &str, entry: Entry) -> usize {
        let number = self.texts.push(text);
        let new = Link::new(number, entry.ports);
        let others = &mut self.other_addresses;
        match entry.subject {
            Subject::V4(first, last) => {
                for network in Ipv4Subnets::new(first, last, 0) {
                    let (bits, length) = (network.addr().to_bits(), network.prefix_len());
                    self.v4.put(bits, length, new, |first| {
                        others.add(first, new, Ports::covers)
                    });
                }
            }
            Subject::V6(first, last) => {
                for network in Ipv6Subnets::new(first, last, 0) {
                    let (bits, length) = (network.addr().to_bits(), network.prefix_len());
                    self.v6.put(bits, length, new, |first| {
                        others.add(first, new, Ports::covers)
                    });
                }
            }
            Subject::Name(name) => {
                self.names
                    .insert(&self.texts, number, &name, entry.ports, false);
            }
            Subject::Domain(name) => {
                self.names
                    .insert(&self.texts, number, &name, entry.ports, true);
            }
        }
        number
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of an entry; empty if there is none with this number.
    pub fn text(&self, entry: usize) -> &str {
        self.texts.get(entry)
    }

    /// The entry that matches an address, with ports that `suit` accepts.
    pub fn address(&self, address: IpAddr, suit: impl Fn(Ports) -> bool) -> Option<usize> {
        let pick = |first: &Link<Ports>| self.other_addresses.earliest(first, &suit);
        match address {
            IpAddr::V4(address) => self.v4.narrowest(address.to_bits(), pick),
            IpAddr::V6(address) => self.v6.narrowest(address.to_bits(), pick),
        }
    }

    /// The entry that matches a name or its nearest domain, with ports that `suit` accepts.
    pub fn name(&self, name: &Name, suit: impl Fn(Ports) -> bool) -> Option<usize> {
        self.names.find(&self.texts, name, suit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few addresses, so that entries overlap, including the ends of the address space.
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
            name().prop_map(Subject::Domain),
        ]
    }

    /// A text of an entry in one of the spellings of its name.
    fn text(subject: &Subject, ports: Ports) -> String {
        match subject {
            Subject::Name(name) if ports == Ports::ALL => format!("{name}."),
            Subject::Name(name) => format!("{}:{ports}", name.as_str().to_uppercase()),
            Subject::Domain(name) if name.labels() == 1 => format!("||{name}^"),
            Subject::Domain(name) if name.labels() == 2 => format!("*.{name}"),
            Subject::Domain(name) => name.to_string(),
            Subject::V4(..) | Subject::V6(..) => String::new(),
        }
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
        fn lookup_agrees_with_a_scan(
            entries in prop::collection::vec((subject(), ports()), 0..40),
            addresses in prop::collection::vec(address(), 20),
            names in prop::collection::vec(name(), 20),
            asked in ports(),
        ) {
            let mut index = Index::default();
            for (subject, ports) in entries.clone() {
                let text = text(&subject, ports);
                index.insert(&text, Entry { subject, ports });
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
    fn the_narrowest_entry_wins_then_the_first() {
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
            index.insert(text, Entry::parse(text).unwrap());
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
        assert_eq!(named("b.example", 80), Some(5));
        assert_eq!(named("example", 80), Some(4));
    }
}
