//! A text is a destination or an error: an address exactly if the standard library parses it, and never a name that inet_aton(3)
//! would read as an address.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use wirebench::blocklist::target::Target;
use wirebench::destination::{Destination, Host, Name};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match (text.parse::<Host>(), text.parse::<IpAddr>()) {
        (Ok(Host::Ip(address)), standard) => assert_eq!(Ok(address), standard),
        (other, Ok(_)) => panic!("{text:?} is an address, and was read as {other:?}"),
        (Ok(Host::Name(name)), Err(_)) => harmless(&name),
        (Err(error), Err(_)) => {
            let sentence = error.to_string();
            assert!(
                sentence.len() < 1_000 && !sentence.contains('\n'),
                "{sentence}"
            );
        }
    }
    let target = text.parse::<Target>();
    let destination = text.parse::<Destination>();
    if let Ok(destination) = &destination {
        assert_eq!(destination.to_string().parse().as_ref(), Ok(destination));
        let target = target.as_ref().map(|target| (&target.host, target.port));
        assert_eq!(target, Ok((&destination.host, Some(destination.port))));
    }
    // A socket address of the standard library, which accepts port 0, leading zeros in ports, and numeric zones.
    if let Ok(standard) = text.parse::<SocketAddr>()
        && let Ok(target) = &target
    {
        assert_eq!(target.port, Some(standard.port()));
        match &target.host {
            Host::Ip(address) => assert_eq!(*address, standard.ip()),
            Host::Name(name) => panic!("{text:?} is an address, and was read as {name}"),
        }
    }
    if let Ok(Target {
        host: Host::Name(name),
        ..
    }) = target
    {
        harmless(&name);
    }
});

/// Canonical, and not a number for any resolver.
fn harmless(name: &Name) {
    let text = name.as_str();
    assert_eq!(text.parse().as_ref(), Ok(name));
    assert!(text.is_ascii() && !text.ends_with('.'));
    assert!(!text.bytes().any(|byte| byte.is_ascii_uppercase()));
    let last = text.rsplit('.').next().unwrap_or_default();
    assert!(!last.is_empty() && last.parse::<u128>().is_err(), "{text}");
    let hex = last
        .strip_prefix("0x")
        .map(|hex| u128::from_str_radix(hex, 16));
    assert!(!matches!(hex, Some(Ok(_))), "{text}");
}
