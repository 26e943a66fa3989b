//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Carried, Decoded, Header};
use crate::destination::authority::parse_port;

/// Longest line in bytes, with CR LF.
pub const MAX_V1: usize = 107;

const START: &[u8] = b"PROXY ";

/// Decodes a line that begins with `P`.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let bad = |detail: &str| Decoded::Bad(format!("the PROXY line {detail}"));
    if !bytes.iter().zip(START).all(|(byte, due)| byte == due) {
        return bad("does not start with PROXY and a space");
    }
    let front = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = front.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < MAX_V1 {
            Decoded::More
        } else {
            bad("does not end within 107 bytes")
        };
    };
    let header = |addresses| {
        Decoded::Header(Header {
            version: 1,
            addresses,
            carried: Carried::default(),
            consumed: end + 2,
        })
    };
    let line = front.get(START.len()..end).unwrap_or_default();
    let Ok(line) = str::from_utf8(line) else {
        return bad("is not text");
    };
    // Text after UNKNOWN is undefined and skipped.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return header(None);
    }
    match addresses(line) {
        Some(addresses) => header(Some(addresses)),
        None => bad("is not TCP4 or TCP6 with two addresses and two ports"),
    }
}

fn addresses(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || {
        let word = words.next()?;
        Some(match family {
            "TCP4" => IpAddr::V4(word.parse::<Ipv4Addr>().ok()?),
            "TCP6" => IpAddr::V6(word.parse::<Ipv6Addr>().ok()?),
            _ => return None,
        })
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || match words.next()? {
        "0" => Some(0),
        text => parse_port(text).ok(),
    };
    let (from, to) = (port()?, port()?);
    words.next().is_none().then_some(Addresses {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// The line for a connection without IP addresses.
pub(super) const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// The line for a connection.
pub fn encode_v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ends = Addresses::alike(source, destination);
    let family = if ends.source.is_ipv4() {
        "TCP4"
    } else {
        "TCP6"
    };
    let (source, destination) = (ends.source, ends.destination);
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
    .into_bytes()
}
