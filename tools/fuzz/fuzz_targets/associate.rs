//! The header of a datagram for a relay: no blocked address is a destination, in any spelling, whatever a client sends and its
//! names resolve to.
//!
//! The first byte says how many of the other bytes are addresses of names; the second is the length of datagrams, of which the
//! rest consists.

#![no_main]

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wirebench::blocklist::embedded::reachable;
use wirebench::blocklist::policy::Sources;
use wirebench::blocklist::reload::Policies;
use wirebench::destination::Host;
use wirebench::protocol::Settings;
use wirebench::protocol::socks5::datagram::{MAX_HEADER, header, header_length, read};
use wirebench::proxy::associations::destinations::{
    BYTES, Destinations, Judge, NAME_BYTES, REMEMBERED, Route,
};
use wirebench::proxy::associations::own::OwnSockets;
use wirebench::proxy::resolver::Resolved;
use wirebench::proxy::rules::Rules;

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("wirebench-fuzz-{}", std::process::id()));
    fs::write(&file, "192.0.2.0/24\n2001:db8::/32\n*.blocked\n").unwrap();
    let sources = Sources {
        block: vec![file],
        ..Sources::default()
    };
    Rules::new(Settings::default(), Policies::load(sources).unwrap())
});

static OWN: LazyLock<OwnSockets> = LazyLock::new(OwnSockets::default);

fn is_blocked(address: IpAddr) -> bool {
    reachable(address).any(|address| match address {
        IpAddr::V4(address) => address.octets().starts_with(&[192, 0, 2]),
        IpAddr::V6(address) => address.segments().starts_with(&[0x2001, 0xdb8]),
    })
}

fn check(route: Route) {
    if let Route::To(address) = route {
        assert!(!is_blocked(address.ip()), "{address} is a destination");
        assert!(address.port() > 0 && !address.ip().is_unspecified());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [names, length, rest @ ..] = bytes else {
        return;
    };
    let names = (usize::from(*names) % 4) * 16;
    let (addresses, rest) = rest.split_at(names.min(rest.len()));
    let addresses: Vec<IpAddr> = addresses
        .chunks_exact(16)
        .map(|bits| Ipv6Addr::from(<[u8; 16]>::try_from(bits).unwrap()).to_canonical())
        .collect();
    let judge = Judge::new(&RULES, &OWN);
    let mut all = Destinations::new(rest.len() % 2 == 1);
    for (now, datagram) in (0u64..).zip(rest.chunks(usize::from(*length) + 1)) {
        let now = now * 300_000_000;
        let Ok(length) = header_length(datagram) else {
            assert!(read(datagram).is_err());
            continue;
        };
        assert!(length <= datagram.len().min(MAX_HEADER));
        let start = &datagram[..length];
        let found = all.route(start, judge, now);
        check(found.route);
        if let Route::To(address) = found.route {
            assert!(all.answers(address, judge, now));
        }
        let Ok(destination) = read(start) else {
            assert!(matches!(found.route, Route::Drop(_)));
            continue;
        };
        assert_eq!(read(&header(&destination.host, destination.port)), Ok(destination.clone()));
        if let (Some(asked), Host::Name(name)) = (found.ask, &destination.host) {
            assert!(!name.as_str().ends_with(".blocked"), "{name} is looked up");
            assert_eq!(asked, destination);
            let answer = Resolved {
                addresses: addresses.clone(),
                aliases: Vec::new(),
            };
            check(all.on_answer(start, &destination, Ok(answer), judge, now));
        }
    }
    assert!(all.bytes() <= usize::from(REMEMBERED) * BYTES + 100 + NAME_BYTES);
});
