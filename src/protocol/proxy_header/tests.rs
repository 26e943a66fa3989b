use proptest::prelude::*;

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![
        (
            any::<std::net::SocketAddrV4>(),
            any::<std::net::SocketAddrV4>()
        )
            .prop_map(|(a, b)| (a.into(), b.into())),
        // A header has no flow label and no scope.
        (
            any::<[u8; 16]>(),
            any::<u16>(),
            any::<[u8; 16]>(),
            any::<u16>()
        )
            .prop_map(|(a, from, b, to)| {
                (
                    SocketAddr::new(a.into(), from),
                    SocketAddr::new(b.into(), to),
                )
            }),
    ]
}

fn header(bytes: &[u8]) -> Header {
    match decode(bytes) {
        Decoded::Header(header) => header,
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn both(source: SocketAddr, destination: SocketAddr) -> Option<Addresses> {
    Some(Addresses {
        source,
        destination,
    })
}

/// A version 2 header with any body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

proptest! {
    #[test]
    fn decoding_inverts_encoding((source, destination) in ends(), tail in prop::collection::vec(any::<u8>(), 0..20)) {
        for (version, bytes) in [(1, encode_v1(source, destination)), (2, encode_v2(source, destination))] {
            let consumed = bytes.len();
            let expected = Header { version, addresses: Some(Addresses { source, destination }), carried: Carried::default(), consumed };
            let more = [&bytes[..], &tail].concat();
            prop_assert_eq!(decode(&more), Decoded::Header(expected));
            for at in 0..consumed {
                prop_assert_eq!(decode(&bytes[..at]), Decoded::More, "at {}", at);
            }
            if version == 1 {
                prop_assert!(consumed <= MAX_V1);
            }
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), command in 0x1Fu8..0x23, family in any::<u8>()) {
        for bytes in [bytes.clone(), v2(command, family, &bytes), [b"PROXY ", &bytes[..]].concat()] {
            if let Decoded::Header(header) = decode(&bytes) {
                prop_assert!(header.consumed <= bytes.len());
                // Bytes after a header do not change it.
                prop_assert_eq!(decode(&bytes[..header.consumed]), Decoded::Header(header));
            }
        }
    }

    #[test]
    fn fields_must_fill_the_header_exactly(fields in prop::collection::vec((4u8.., prop::collection::vec(any::<u8>(), 0..9)), 0..5), cut in 1usize..3) {
        let mut body = vec![1; 12];
        for (kind, value) in &fields {
            body.extend([*kind, 0, u8::try_from(value.len()).unwrap()]);
            body.extend(value);
        }
        let whole = v2(0x21, 0x11, &body);
        prop_assert_eq!(header(&whole).consumed, whole.len());
        if !fields.is_empty() {
            let short = v2(0x21, 0x11, &body[..body.len() - cut]);
            let lost_a_whole_field = matches!(fields.last(), Some((_, value)) if value.len() + 3 <= cut);
            prop_assert_eq!(matches!(decode(&short), Decoded::Bad(_)), !lost_a_whole_field);
        }
    }
}

/// Encoded fields.
fn encoded(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in fields {
        bytes.push(*kind);
        bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend(value);
    }
    bytes
}

/// A header with a valid checksum as its last field.
fn with_checksum(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = v2(command, family, &[body, &[3, 0, 4, 0, 0, 0, 0]].concat());
    let at = bytes.len() - 4;
    let sum = v2::crc32c(&bytes, at);
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

proptest! {
    #[test]
    fn fields_are_passed_on_unchanged(
        (source, destination) in ends(),
        (from, to) in ends(),
        fields in prop::collection::vec((1u8.., prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        checked: bool,
    ) {
        let fields: Vec<_> = fields.into_iter().filter(|(kind, _)| *kind != 3).collect();
        let plain = encode_v2(source, destination);
        let body = [&plain[16..], &encoded(&fields)].concat();
        let came = match checked {
            true => with_checksum(0x21, plain[13], &body),
            false => v2(0x21, plain[13], &body),
        };
        let first = header(&came);
        prop_assert_eq!(first.addresses, Some(Addresses { source, destination }));
        // Padding is omitted.
        let news: Vec<_> = fields.into_iter().filter(|(kind, _)| *kind != 4).collect();
        prop_assert_eq!(first.carried.fields(), encoded(&news));
        // With other addresses, which may be longer. A wrong checksum is rejected.
        let next = first.carried.encode_v2(both(from, to));
        let second = header(&next);
        prop_assert_eq!(second.carried, first.carried.clone());
        prop_assert_eq!(second.consumed, next.len());
        let bare = encode_v2(from, to);
        let sum = if checked { 7 } else { 0 };
        prop_assert_eq!(next.len(), bare.len() + encoded(&news).len() + sum);
        prop_assert_eq!(&next[16..bare.len()], &bare[16..]);
        prop_assert_eq!(first.carried.encode_v1(both(from, to)), encode_v1(from, to));
    }
}

#[test]
fn paths_are_passed_on_in_version_2_only() {
    let mut body = vec![0; 216];
    body[..5].copy_from_slice(b"/from");
    body[108..111].copy_from_slice(b"/to");
    let fields = encoded(&[(0xEA, b"\x01vpce-1".to_vec())]);
    let came = v2(0x21, 0x31, &[&body[..], &fields].concat());
    let carried = header(&came).carried;
    let end: SocketAddr = "127.0.0.1:1".parse().unwrap();
    assert_eq!(carried.encode_v2(both(end, end)), came);
    assert_eq!(carried.encode_v1(both(end, end)), b"PROXY UNKNOWN\r\n");
    // A listener of this program: the client has no path.
    let own = Carried::of_unix(b"/to").encode_v2(None);
    assert_eq!(own[16..16 + 108], [0; 108]);
    assert_eq!(own[16 + 108..], body[108..]);
    assert_eq!((own[12], own[13]), (0x21, 0x31));
    assert_eq!(header(&own).carried, Carried::of_unix(b"/to"));
    assert_eq!(
        Carried::of_unix(&[b'x'; 300]).encode_v2(None).len(),
        16 + 216
    );
}

#[test]
fn a_local_header_carries_nothing() {
    let fields = encoded(&[(0xEA, b"x".to_vec())]);
    for bytes in [
        v2(0x20, 0x11, &[&[1; 12][..], &fields].concat()),
        v2(0x21, 0x00, &fields),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
    ] {
        assert_eq!(header(&bytes).carried, Carried::default());
    }
}

#[test]
fn without_addresses_the_header_is_local() {
    let carried = Carried::default();
    assert_eq!(carried.encode_v1(None), b"PROXY UNKNOWN\r\n");
    assert_eq!(carried.encode_v2(None), v2(0x20, 0x00, &[]));
}

#[test]
fn the_most_fields_fit_after_the_longest_addresses() {
    let filled = |bytes: usize| encoded(&[(0xEA, vec![7; bytes - 3])]);
    let most = filled(MAX_FIELDS);
    let came = with_checksum(0x21, 0x31, &[&[0; 216][..], &most].concat());
    assert_eq!(came.len(), MAX_V2);
    let end: SocketAddr = "127.0.0.1:1".parse().unwrap();
    assert_eq!(header(&came).carried.encode_v2(both(end, end)), came);
    let more = v2(
        0x21,
        0x11,
        &[&[1; 12][..], &filled(MAX_FIELDS + 1)].concat(),
    );
    assert!(matches!(decode(&more), Decoded::Bad(_)));
}

#[test]
fn lines_match_the_specification() {
    let line = encode_v1(
        "192.168.0.1:56324".parse().unwrap(),
        "192.168.0.11:443".parse().unwrap(),
    );
    assert_eq!(line, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:: whatever 1 2\r\n"] {
        let header = header(unknown.as_bytes());
        assert_eq!((header.addresses, header.consumed), (None, unknown.len()));
    }
    let widest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {widest} {widest} 65535 65535\r\n");
    assert_eq!(
        (longest.len(), header(longest.as_bytes()).consumed),
        (MAX_V1, MAX_V1)
    );
}

#[test]
fn other_lines_are_refused() {
    for line in [
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%lo ::2 1 2\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
        "POST / HTTP/1.1\r\n",
        "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "{\"server_ip\"",
    ] {
        assert!(matches!(decode(line.as_bytes()), Decoded::Bad(_)), "{line}");
    }
    let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 93]].concat();
    assert_eq!(endless.len(), MAX_V1);
    assert!(matches!(decode(&endless), Decoded::Bad(_)));
    assert_eq!(decode(&endless[..MAX_V1 - 1]), Decoded::More);
}

#[test]
fn the_layout_of_version_2_is_the_standards() {
    let bytes = encode_v2(
        "1.2.3.4:258".parse().unwrap(),
        "5.6.7.8:772".parse().unwrap(),
    );
    assert_eq!(bytes, v2(0x21, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4]));
}

#[test]
fn a_client_without_an_address_has_a_header() {
    for (command, family, body) in [
        (0x20, 0x00, vec![]),
        (0x20, 0x77, vec![9; 40]),
        (0x21, 0x00, vec![9; 7]),
        (0x21, 0x31, vec![0; 216]),
    ] {
        let bytes = v2(command, family, &body);
        let header = header(&bytes);
        assert_eq!((header.addresses, header.consumed), (None, bytes.len()));
    }
    for (command, family, body) in [
        (0x22, 0x11, vec![0; 12]),
        (0x11, 0x11, vec![0; 12]),
        (0x21, 0x12, vec![0; 12]),
        (0x21, 0x22, vec![0; 36]),
        (0x21, 0x41, vec![0; 12]),
        (0x21, 0x11, vec![0; 11]),
        (0x21, 0x21, vec![0; 35]),
        (0x21, 0x31, vec![0; 215]),
    ] {
        let bytes = v2(command, family, &body);
        assert!(
            matches!(decode(&bytes), Decoded::Bad(_)),
            "{command:x} {family:x}"
        );
    }
}

#[test]
fn a_checksum_is_verified_once() {
    // The standard check value of CRC-32C.
    assert_eq!(v2::crc32c(b"123456789", 100), 0xE306_9283);
    let mut body = vec![1; 12];
    body.extend([3, 0, 4, 0, 0, 0, 0]);
    let mut bytes = v2(0x21, 0x11, &body);
    let at = bytes.len() - 4;
    let sum = v2::crc32c(&bytes, at);
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(header(&bytes).consumed, bytes.len());
    for changed in [12 + 4, at - 1, at] {
        let mut other = bytes.clone();
        other[changed] ^= 1;
        assert!(matches!(decode(&other), Decoded::Bad(_)), "{changed}");
    }
    let twice = [&body[..], &[3, 0, 4, 0, 0, 0, 0]].concat();
    assert!(matches!(decode(&v2(0x21, 0x11, &twice)), Decoded::Bad(_)));
}

#[test]
fn the_largest_header_is_accepted() {
    let mut body = vec![0; usize::from(u16::MAX)];
    body[12..15].copy_from_slice(&[4, 0xFF, 0xF0]);
    let bytes = v2(0x21, 0x11, &body);
    assert_eq!((bytes.len(), header(&bytes).consumed), (MAX_V2, MAX_V2));
}

#[test]
fn mixed_families_become_one() {
    let v4: SocketAddr = "1.2.3.4:1".parse().unwrap();
    let mapped: SocketAddr = "[::ffff:1.2.3.4]:1".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:2".parse().unwrap();
    for encode in [encode_v1, encode_v2] {
        assert_eq!(header(&encode(v4, v6)).addresses, both(mapped, v6));
        assert_eq!(header(&encode(v6, v4)).addresses, both(v6, mapped));
        assert_eq!(header(&encode(mapped, v4)).addresses, both(v4, v4));
    }
}

#[test]
fn header_of_datagrams_differs_by_its_transport_only() {
    for (source, destination, transport) in [
        ("192.0.2.1:5", "192.0.2.2:53", 0x12),
        ("[2001:db8::1]:5", "[2001:db8::2]:53", 0x22),
    ] {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let mut stream = encode_v2(source, destination);
        stream[13] = transport;
        assert_eq!(encode_v2_datagram(source, destination), stream);
    }
}
