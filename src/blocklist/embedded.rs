//! Addresses embedded in others: every address that a connection to a socket address may reach.
//!
//! A list that blocks 192.0.2.1 must block each IPv6 address that some stack, translator or relay turns into it. Where several
//! interpretations are possible, all count: one too many refuses a connection, one too few lets it through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address as the kernel interprets it. IPv4-mapped addresses are IPv4 (RFC 4291, section 2.5.5.2), and the unspecified
/// address is this host: Linux connects 0.0.0.0 to 127.0.0.1 and :: to ::1.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => loopback_if_unspecified(address).into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Every address to check: the given one, its canonical form, and the other IPv4 addresses embedded in it.
pub fn reachable(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let canonical = canonical(address);
    let embedded = match address {
        IpAddr::V4(_) => [None; 7],
        IpAddr::V6(address) => embedded(address),
    };
    [Some(address), (canonical != address).then_some(canonical)]
        .into_iter()
        .chain(embedded.map(|address| address.map(IpAddr::V4)))
        .flatten()
}

/// Whether an address certainly reaches only itself, by its first 32 bits and the ISATAP marker. False for a few other
/// addresses too.
pub fn embeds_nothing(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_unspecified(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let (first, mark) = ((bits >> 96) as u32, (bits >> 32) as u32);
            let isatap = mark & !0x0200_0000 == 0x5efe;
            let forms = matches!(first, 0 | 0x64_ff9b | 0x2001_0000) || first >> 16 == 0x2002;
            !isatap && !forms
        }
    }
}

fn loopback_if_unspecified(address: Ipv4Addr) -> Ipv4Addr {
    if address.is_unspecified() {
        Ipv4Addr::LOCALHOST
    } else {
        address
    }
}

/// The IPv4 addresses embedded in an IPv6 address, for each form that it matches, without its canonical form.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 7] {
    let bits = address.to_bits();
    let of =
        |form: bool, low_bit: u32| form.then_some(Ipv4Addr::from_bits((bits >> low_bit) as u32));
    let first_96 = bits >> 32;
    // RFC 4291, section 2.5.5.1, deprecated. :: and ::1 match this form but have their own meaning.
    let compatible = first_96 == 0 && bits > 1;
    // RFC 4291, section 2.5.5.2. The canonical form of ::ffff:0.0.0.0 is 127.0.0.1, that of others is the embedded address.
    let mapped = bits == 0xffff << 32;
    // IPv4-translated, RFC 2765, section 2.1.
    let translated = first_96 == 0xffff << 16;
    // RFC 6052, section 2.1: the well-known prefix.
    let nat64 = first_96 == 0x64_ff9b << 64;
    // RFC 8215: local use, with a prefix length that only the translator has.
    let local = bits >> 80 == 0x64_ff9b_0001;
    // RFC 3056, section 2: the router of 2002::/16.
    let six_to_four = bits >> 112 == 0x2002;
    // RFC 4380, section 4: the server, and the client with inverted bits.
    let teredo = bits >> 96 == 0x2001_0000;
    // RFC 5214, section 6.1: an interface identifier under any prefix.
    let isatap = (bits >> 32) as u32 & !0x0200_0000 == 0x5efe;
    let low = compatible | mapped | translated | nat64 | local | isatap;
    let inverted = of(teredo, 0).map(|address| Ipv4Addr::from_bits(!address.to_bits()));
    let [from_48, from_56, from_64] = if local {
        short_nat64(address)
    } else {
        [None; 3]
    };
    [
        of(low, 0),
        of(six_to_four, 80),
        of(teredo, 64),
        inverted,
        from_48,
        from_56,
        from_64,
    ]
}

/// The IPv4 address after a prefix of 48, 56 and 64 bits (RFC 6052, section 2.2): around byte 8, which is skipped. Translators
/// ignore the suffix, so it is not checked.
///
/// Results in 0.0.0.0/8 are omitted: translators do not reach them, and the zeros of every address with a 96-bit prefix would
/// give one.
fn short_nat64(address: Ipv6Addr) -> [Option<Ipv4Addr>; 3] {
    let b = address.octets();
    [
        [b[6], b[7], b[9], b[10]],
        [b[7], b[9], b[10], b[11]],
        [b[9], b[10], b[11], b[12]],
    ]
    .map(|octets| (octets[0] != 0).then_some(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reachable_from(text: &str) -> Vec<String> {
        let mut all: Vec<_> = reachable(text.parse().unwrap())
            .map(|address| address.to_string())
            .collect();
        all.dedup();
        all
    }

    #[test]
    fn every_embedding_of_an_ipv4_address_is_found() {
        for form in [
            "::ffff:192.0.2.33",
            "::FFFF:C000:221",
            "0:0:0:0:0:ffff:192.0.2.33",
            "0000:0000:0000:0000:0000:ffff:c000:0221",
            "::192.0.2.33",
            "::c000:221",
            "::ffff:0:192.0.2.33",
            "64:ff9b::192.0.2.33",
            "64:ff9b::c000:221",
            // The table of RFC 6052, section 2.4, below the prefix of RFC 8215.
            "64:ff9b:1:c000:2:2100::",
            "64:ff9b:1:c0:0:221::",
            "64:ff9b:1:0:c0:2:2100::",
            "64:ff9b:1::192.0.2.33",
            "64:ff9b:1:abcd::192.0.2.33",
            // Any suffix.
            "64:ff9b:1:c000:2:2100::1",
            "64:ff9b:1:0:c0:2:2100:ffff",
            "2002:c000:221::",
            "2002:c000:221:1:2:3:4:5",
            "2001:0:c000:221::",
            "2001::8000:63bf:3fff:fdde",
            "2001:db8::5efe:192.0.2.33",
            "2001:db8::200:5efe:c000:221",
            "fe80::5efe:192.0.2.33",
        ] {
            let all = reachable_from(form);
            assert!(all.contains(&"192.0.2.33".to_owned()), "{form}: {all:?}");
        }
    }

    #[test]
    fn other_addresses_embed_none() {
        for plain in [
            "192.0.2.33",
            "2001:db8::c000:221",
            "::1",
            "64:ff9b:2::c000:221",
            "64:ff9c::c000:221",
            "2003:c000:221::",
            "2001:1:c000:221::",
            "fe80::5efd:c000:221",
            "ff02::1",
        ] {
            assert_eq!(reachable_from(plain), [plain]);
        }
        assert!(embeds_nothing("2606:4700::1111".parse().unwrap()));
        assert!(embeds_nothing("1.1.1.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn an_address_without_embeddings_reaches_only_itself(bits: u128, form in 0..128u32, kept in 0..=128u32) {
            let forms = [0, 0xffff << 32, 0xffff << 48, 0x64_ff9b << 96, 0x64_ff9b_0001 << 80, 0x2002 << 112,
                0x2001 << 112, 0x5efe << 32, 0x0200_5efe << 32];
            // One of the forms, with random low bits.
            let low = u128::MAX.checked_shr(kept).unwrap_or(0);
            let bits = forms[form as usize % forms.len()] & !low | bits & low;
            let addresses = [IpAddr::V6(bits.into()), IpAddr::V4((bits as u32).into())];
            for address in addresses.into_iter().filter(|address| embeds_nothing(*address)) {
                prop_assert_eq!(reachable(address).collect::<Vec<_>>(), [address]);
            }
        }
    }

    #[test]
    fn the_unspecified_address_is_this_host() {
        assert_eq!(reachable_from("0.0.0.0"), ["0.0.0.0", "127.0.0.1"]);
        assert_eq!(reachable_from("::"), ["::", "::1"]);
        assert_eq!(
            reachable_from("::ffff:0.0.0.0"),
            ["::ffff:0.0.0.0", "127.0.0.1", "0.0.0.0"]
        );
        assert_eq!(
            canonical("::ffff:0:0".parse().unwrap()),
            Ipv4Addr::LOCALHOST
        );
    }

    #[test]
    fn zeros_are_not_an_embedded_address() {
        assert_eq!(
            reachable_from("64:ff9b:1::192.0.2.33"),
            ["64:ff9b:1::c000:221", "192.0.2.33"]
        );
    }
}
