//! Lists of every format block exactly the names and addresses that they list.

use super::*;

/// Writes a name in a format, and whether its subdomains are included.
type Written = fn(&str) -> String;

const WRITTEN: [(Written, bool); 12] = [
    (|name| name.to_owned(), false),
    (|name| format!("*.{name}"), true),
    (|name| format!(".{}.", name.to_uppercase()), true),
    (|name| format!("{name}\t3"), false),
    (|name| format!("0.0.0.0 {name} # x"), false),
    (|name| format!(":: localhost {name}"), false),
    (|name| format!("||{name}^"), true),
    (|name| format!("address=/{name}/#"), true),
    (|name| format!("server=/{name}/"), true),
    (
        |name| format!("local-zone: \"{name}.\" always_nxdomain"),
        true,
    ),
    (|name| format!("local-data: \"{name} A 0.0.0.0\""), false),
    (|name| format!("address=/{name}/other.example/"), true),
];

proptest! {
    /// Compares with a model without labels, indexes or formats.
    #[test]
    fn every_format_blocks_exactly_the_listed_names(
        listed in prop::collection::vec("([a-c]\\.){1,3}[a-c]", 1..12),
        asked in prop::collection::vec("([a-c]\\.){0,4}[a-c]", 20),
        format in 0..WRITTEN.len(),
        subdomains: bool,
    ) {
        let (written, mut below) = WRITTEN[format];
        let content: String = listed.iter().map(|name| written(name) + "\r\n").collect();
        let policy = match subdomains {
            false => load(&[&content], &[], false),
            true => load_with(&[], &[&content], &[], &[], false),
        };
        below |= subdomains;
        for name in asked {
            let expected = listed.iter().any(|own| {
                *own == name || below && name.ends_with(&format!(".{own}"))
            });
            let verdict = policy.decide_name(&name.parse().unwrap(), 80);
            prop_assert_eq!(verdict != Verdict::Allowed, expected, "{} by {:?}", name, content);
        }
    }

    #[test]
    fn every_format_blocks_exactly_the_listed_addresses(
        listed in prop::collection::vec((0u32..1 << 12, 20u32..=32), 1..8),
        asked in prop::collection::vec(0u32..1 << 12, 20),
        format in 0..7usize,
    ) {
        let address = |low: u32| std::net::Ipv4Addr::from_bits(0xc612_0000 | low);
        let ranges: Vec<_> = listed.iter().map(|&(low, length)| {
            let size = 1u32 << (32 - length);
            (low / size * size, low / size * size + (size - 1), length)
        }).collect();
        let lines = ranges.iter().map(|&(first, last, length)| {
            let (from, to) = (address(first), address(last));
            match format {
                0 => format!("{from}/{length}"),
                1 => format!("{from}-{to}"),
                2 => format!("{{\"cidr\":\"{from}/{length}\"}}"),
                3 => format!("title, 1: {from}-{to}"),
                4 => {
                    let [a, b, c, d] = from.octets();
                    let [e, f, g, h] = to.octets();
                    format!("{a:03}.{b:03}.{c:03}.{d:03} - {e:03}.{f:03}.{g:03}.{h:03} , 000 , x")
                }
                5 => format!("{from}\t{to}\t{length}\t9\tx"),
                _ => format!("add s {from}/{length}"),
            }
        });
        let content: String = lines.map(|line| line + "\n").collect();
        let policy = load(&[&content], &[], false);
        let ends = ranges.iter().flat_map(|&(first, last, _)| [first, last, first.wrapping_sub(1), last + 1]);
        for low in asked.into_iter().chain(ends).filter(|low| *low < 1 << 16) {
            let expected = ranges.iter().any(|(first, last, _)| (first..=last).contains(&&low));
            let verdict = policy.decide(SocketAddr::new(address(low).into(), 80), None);
            prop_assert_eq!(verdict != Verdict::Allowed, expected, "{} by {:?}", low, content);
        }
    }
}
