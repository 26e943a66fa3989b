//! From a client's first byte to a server: no blocked address is connected to, in any spelling, whatever a client sends and its
//! names resolve to.
//!
//! The first byte selects the rules and how many of the other bytes are addresses of a name; the second is the length of pieces.

#![no_main]

use std::fs;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wirebench::blocklist::policy::Sources;
use wirebench::blocklist::embedded::reachable;
use wirebench::blocklist::reload::Policies;
use wirebench::protocol::Settings;
use wirebench::proxy::handshake::{Handshake, Action};
use wirebench::proxy::resolver::Resolved;
use wirebench::proxy::rules::Rules;

// With and without a PROXY header.
static RULES: LazyLock<[Rules; 2]> = LazyLock::new(|| {
    [false, true].map(|accept_header| {
        let file = std::env::temp_dir().join(format!("wirebench-fuzz-{}", std::process::id()));
        fs::write(&file, "192.0.2.0/24\n2001:db8::/32\n*.blocked\n").unwrap();
        let sources = Sources {
            block: vec![file],
            ..Sources::default()
        };
        Rules {
            accept_header,
            ..Rules::new(Settings::default(), Policies::load(sources).unwrap())
        }
    })
});

fn is_blocked(address: IpAddr) -> bool {
    reachable(address).any(|address| match address {
        IpAddr::V4(address) => address.octets().starts_with(&[192, 0, 2]),
        IpAddr::V6(address) => address.segments().starts_with(&[0x2001, 0xdb8]),
    })
}

fuzz_target!(|bytes: &[u8]| {
    let [choice, length, rest @ ..] = bytes else {
        return;
    };
    let rules = &RULES[usize::from(choice & 1)];
    let names = (usize::from(choice >> 1) % 8) * 16;
    let (addresses, wire) = rest.split_at(names.min(rest.len()));
    let addresses: Vec<IpAddr> = addresses
        .chunks_exact(16)
        .map(|bits| Ipv6Addr::from(<[u8; 16]>::try_from(bits).unwrap()).to_canonical())
        .collect();
    let peer = SocketAddr::from(([203, 0, 113, 1], 4_000));
    let mut handshake = Handshake::new(rules, peer.into(), None, false);
    let mut action = handshake.begin(rules);
    let mut pieces = wire.chunks(usize::from(*length) + 1);
    for _ in 0..bytes.len() + 20 {
        action = match action {
            Action::Read => match pieces.next() {
                Some(piece) => handshake.on_read(piece, rules),
                None => handshake.on_eof(rules),
            },
            Action::Resolve(name) => {
                assert!(!name.as_str().ends_with(".blocked"), "{name} is looked up");
                let resolved = Resolved {
                    addresses: addresses.clone(),
                    aliases: Vec::new(),
                };
                handshake.on_resolved(Ok(resolved), rules)
            }
            Action::Connect(address) => {
                assert!(!is_blocked(address.ip()), "{address} is connected to");
                handshake.on_connect_failed(address, &Error::from(ErrorKind::ConnectionRefused), rules)
            }
            Action::Wait => panic!("nothing is tried"),
            Action::Associate(_) | Action::Refuse(_) => return,
        };
    }
    panic!("there is no end to it");
});
