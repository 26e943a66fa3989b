//! Any text is a destination or refused: as an address exactly where the standard library takes it for one, and never as
//! a name that inet_aton(3) would take for an address.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use wirebench::blocklist::host::{Destination, Host};
use wirebench::blocklist::name::Name;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match (Host::parse(text), text.parse::<IpAddr>()) {
        (Ok(Host::Address(address)), standard) => assert_eq!(Ok(address), standard),
        (other, Ok(_)) => panic!("{text:?} is an address, and was read as {other:?}"),
        (Ok(Host::Zoned(address, zone)), Err(_)) => {
            let (before, after) = text.split_once('%').unwrap_or_default();
            assert_eq!((before.parse(), after), (Ok(address), &*zone));
        }
        (Ok(Host::Name(name)), Err(_)) => harmless(&name),
        (Err(error), Err(_)) => assert!(!error.to_string().is_empty()),
    }
    // A socket address as the standard library writes it. It takes a port of 0 and zeros before it, and zones are of numbers.
    if let Ok(standard) = text.parse::<SocketAddr>()
        && let Ok(destination) = Destination::parse(text)
    {
        assert_eq!(destination.port, Some(standard.port()));
        match destination.host {
            Host::Address(address) => assert_eq!(address, standard.ip()),
            Host::Zoned(address, _) => assert_eq!(IpAddr::V6(address), standard.ip()),
            Host::Name(name) => panic!("{text:?} is an address, and was read as {name}"),
        }
    }
    if let Ok(Destination {
        host: Host::Name(name),
        ..
    }) = Destination::parse(text)
    {
        harmless(&name);
    }
});

/// Canonical, and nothing that a resolver takes for a number.
fn harmless(name: &Name) {
    let text = name.as_str();
    assert_eq!(Name::parse(text).as_ref(), Ok(name));
    assert!(text.is_ascii() && !text.ends_with('.'));
    assert!(!text.bytes().any(|byte| byte.is_ascii_uppercase()));
    let last = text.rsplit('.').next().unwrap_or_default();
    assert!(!last.is_empty() && last.parse::<u128>().is_err(), "{text}");
    let hex = last
        .strip_prefix("0x")
        .map(|hex| u128::from_str_radix(hex, 16));
    assert!(!matches!(hex, Some(Ok(_))), "{text}");
}
