//! SOCKS version 5 (RFC 1928): CONNECT and UDP ASSOCIATE, without authentication or by user and password (RFC 1929). [`datagram`]
//! has the header of relayed datagrams.
//!
//! ```text
//! client  05 count methods…                       greeting
//! server  05 method                               00 no authentication, 02 user and password, FF none acceptable
//! client  01 length user length password          with method 02 only
//! server  01 status                               00 success
//! client  05 command 00 kind address port         01 CONNECT, 03 UDP ASSOCIATE; 01 IPv4, 03 length and name, 04 IPv6
//! server  05 reply 00 kind address port
//! ```

pub mod client;
pub mod datagram;
pub(super) mod reader;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::request::Outcome;
use crate::destination::{Destination, Host};

const VERSION: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;

/// Methods (RFC 1928, section 3).
const OPEN: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xFF;

/// Address types (RFC 1928, section 5).
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// Replies to a request (RFC 1928, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// Connected.
    Succeeded = 0,
    /// Any other failure, such as an invalid request or a busy proxy.
    General = 1,
    /// Policy forbids the destination.
    NotAllowed = 2,
    /// No route to the network.
    NetworkUnreachable = 3,
    /// No route to the host, or its name has no address.
    HostUnreachable = 4,
    /// The server refused the connection.
    Refused = 5,
    /// The server did not answer in time. RFC 1928 names it "TTL expired" and has no other code for timeouts.
    TimedOut = 6,
    /// BIND is not supported, and UDP ASSOCIATE not everywhere.
    NoSuchCommand = 7,
    /// An unknown address type.
    NoSuchAddress = 8,
}

impl Reply {
    const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Connected(_) => Self::Succeeded,
            Outcome::Blocked(_) => Self::NotAllowed,
            Outcome::Refused => Self::Refused,
            Outcome::HostUnreachable | Outcome::NameUnknown => Self::HostUnreachable,
            Outcome::NetworkUnreachable => Self::NetworkUnreachable,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Busy | Outcome::RequestTimeout | Outcome::General(_) => Self::General,
        }
    }

    /// The meaning of a code.
    pub const fn words(code: u8) -> &'static str {
        match code {
            0 => "succeeded",
            1 => "general failure",
            2 => "not allowed by policy",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "timed out",
            7 => "command not supported",
            8 => "address type not supported",
            _ => "unassigned reply",
        }
    }

    /// The encoded reply; `bound` is the proxy's end of its connection to the server.
    fn encode(self, bound: Option<SocketAddr>) -> Vec<u8> {
        let bound = bound.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
        let mut bytes = vec![VERSION, self as u8, 0];
        put_address(&mut bytes, &Host::Ip(bound.ip()), bound.port());
        bytes
    }
}

fn put_address(bytes: &mut Vec<u8>, host: &Host, port: u16) {
    match host {
        Host::Ip(IpAddr::V4(address)) => {
            bytes.push(V4);
            bytes.extend(address.octets());
        }
        Host::Ip(IpAddr::V6(address)) => {
            bytes.push(V6);
            bytes.extend(address.octets());
        }
        Host::Name(name) => {
            bytes.push(NAME);
            put_word(bytes, name.as_str().as_bytes());
        }
    }
    bytes.extend(port.to_be_bytes());
}

/// Appends a string with its length, truncated to 255 bytes.
fn put_word(bytes: &mut Vec<u8>, word: &[u8]) {
    let length = u8::try_from(word.len()).unwrap_or(u8::MAX);
    bytes.push(length);
    bytes.extend(word.iter().take(length.into()));
}

/// An address in a message.
enum Address {
    Ip(IpAddr),
    Name(Vec<u8>),
    /// Of an unknown type, so of unknown length.
    Other(u8),
}

/// Takes an address and its port from the front of `rest`; `None` if incomplete.
fn take_address(rest: &mut &[u8]) -> Option<(Address, u16)> {
    let address = match take(rest)? {
        V4 => Address::Ip(take_many::<4>(rest)?.into()),
        V6 => Address::Ip(take_many::<16>(rest)?.into()),
        NAME => Address::Name(take_word(rest)?.to_vec()),
        other => return Some((Address::Other(other), 0)),
    };
    Some((address, u16::from_be_bytes(take_many(rest)?)))
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    rest.split_off_first().copied()
}

fn take_many<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (many, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*many)
}

/// Takes a string with its length.
fn take_word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest)?;
    rest.split_off(..usize::from(length))
}

/// The destination of a message's address.
///
/// # Errors
/// The reply code and the reason.
fn destination(address: Address, port: u16) -> Result<Destination, (Reply, String)> {
    let general = |detail: String| (Reply::General, detail);
    let host = match address {
        Address::Ip(address) => Host::Ip(address),
        // Clients without a resolver send addresses as names, which parse as addresses.
        Address::Name(name) => str::from_utf8(&name)
            .map_err(|_| general("the name is not UTF-8".to_owned()))?
            .parse()
            .map_err(|error| general(format!("{error}")))?,
        Address::Other(kind) => {
            return Err((Reply::NoSuchAddress, unknown_type(kind)));
        }
    };
    if port == 0 {
        return Err(general("port 0 cannot be connected to".to_owned()));
    }
    Ok(Destination { host, port })
}

fn unknown_type(kind: u8) -> String {
    format!("address type {kind} is not supported, only 1, 3 and 4")
}

#[cfg(test)]
mod tests;
