//! List formats, a file each. [`detect`](mod@detect) distinguishes them by content.

mod adblock;
pub mod detect;
mod dnsmasq;
mod dshield;
mod hosts;
mod ipset;
mod json;
mod lines;
mod ranges;
mod unbound;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::entry::{Entry, EntryError, Subject, domain, network};
use crate::destination::Name;
use detect::{Unsupported, detect};

/// Why a line is invalid in the format of its list.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum LineError {
    /// Not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Text other than a count after the entry.
    #[error(
        "{0} comes after an entry and is not a number; write one entry a line, and # before a comment"
    )]
    Count(String),
    /// Not JSON, or not an object.
    #[error("it is not a JSON object, from column {0} on; write one object a line")]
    Json(usize),
    /// Neither a network nor metadata.
    #[error("the object has no \"cidr\"; write it like {{\"cidr\":\"192.0.2.0/24\"}}")]
    NoCidr,
    /// The line does not begin with an address.
    #[error("{0} is not an address; a hosts file has an address and then names")]
    HostsAddress(String),
    /// An address without names.
    #[error("no name follows {0}; a hosts file has an address and then names")]
    HostsName(String),
    /// A name that is mapped to a host.
    #[error(
        "{0} is mapped to {1}, which blocks nothing; a blocklist maps names to 0.0.0.0, ::, 127.0.0.1 or ::1"
    )]
    Mapped(String, String),
    /// Not a range.
    #[error("{0} is not a range of IPv4 addresses; write it like 192.0.2.1-192.0.2.9")]
    Range(String),
    /// Invalid level in a DAT file.
    #[error("the level {0} is not a number from 0 to 255")]
    Level(String),
    /// Invalid columns of a DShield list.
    #[error(
        "{0} does not begin with the first and last address of a network and its prefix length"
    )]
    Netblock(String),
    /// An adblock rule about more than a host.
    #[error(
        "{0} is a rule for browsers; only ||name^ and @@||name^ are supported, without modifiers"
    )]
    Rule(String),
    /// A dnsmasq option that blocks nothing.
    #[error(
        "{0} is not an option that blocks a domain; write it like address=/name/ or server=/name/"
    )]
    Dnsmasq(String),
    /// An unbound option that blocks nothing.
    #[error(
        "{0} is not an option that blocks a domain; write it like local-zone: \"name\" always_nxdomain"
    )]
    Unbound(String),
    /// An unbound zone type that blocks nothing.
    #[error(
        "the zone type {0} does not block; types that do are refuse, deny, static, redirect and always_nxdomain"
    )]
    Zone(String),
    /// Not a line of `ipset save`.
    #[error("{0} is not a line of ipset save; write it like add SET 192.0.2.0/24")]
    Ipset(String),
    /// A member that is not only addresses.
    #[error(
        "the member {0} is not an address, a network or a range; only sets of those are supported"
    )]
    Member(String),
    /// An excepted member.
    #[error(
        "the member {0} is an exception (nomatch), which is not supported; name it with --except"
    )]
    Nomatch(String),
    /// An exception where there is nothing to except from.
    #[error("{0} is an exception, which is valid in a blocklist only")]
    Exception(String),
}

/// A list format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One entry a line, with `#` or `;` comments and an optional tab and count: FireHOL, Spamhaus DROP, ipsum, dnscrypt-proxy,
    /// Squid's dstdomain.
    Lines,
    /// One JSON object a line, with the network in `cidr`: Spamhaus DROP.
    Json,
    /// A sinkhole address and the names that are mapped to it.
    Hosts,
    /// A title, a colon and a range of IPv4 addresses: PeerGuardian P2P.
    P2p,
    /// A range of zero-padded IPv4 addresses, a level and a title, separated by commas: eMule DAT.
    Dat,
    /// First and last address, prefix length and further columns: DShield.
    Dshield,
    /// `||name^` and `@@||name^`: Adblock Plus, AdGuard, uBlock Origin.
    Adblock,
    /// `address=/name/`, `server=/name/` or `local=/name/`: dnsmasq.
    Dnsmasq,
    /// `local-zone: "name" TYPE`: unbound.
    Unbound,
    /// `add SET ADDRESS`: ipset save.
    Ipset,
}

/// In order of preference. If several formats read a line, they agree on its meaning.
const FORMATS: [Format; 10] = [
    Format::Lines,
    Format::Json,
    Format::P2p,
    Format::Dat,
    Format::Hosts,
    Format::Dshield,
    Format::Adblock,
    Format::Dnsmasq,
    Format::Unbound,
    Format::Ipset,
];

impl Format {
    /// Passes on the items of a line.
    fn line(self, line: &str, take: &mut impl FnMut(Item)) -> Result<(), LineError> {
        match self {
            Self::Lines => lines::read(line, take),
            Self::Json => json::read(line, take),
            Self::Hosts => hosts::read(line, take),
            Self::P2p => ranges::read_p2p(line, take),
            Self::Dat => ranges::read_dat(line, take),
            Self::Dshield => dshield::read(line, take),
            Self::Adblock => adblock::read(line, take),
            Self::Dnsmasq => dnsmasq::read(line, take),
            Self::Unbound => unbound::read(line, take),
            Self::Ipset => ipset::read(line, take),
        }
    }

    /// Whether files of this format may have exceptions.
    pub fn has_exceptions(self) -> bool {
        matches!(self, Self::Adblock)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "lines",
            Self::Json => "JSON lines",
            Self::Hosts => "hosts",
            Self::P2p => "P2P",
            Self::Dat => "DAT",
            Self::Dshield => "DShield",
            Self::Adblock => "adblock",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
            Self::Ipset => "ipset",
        })
    }
}

/// An item of a line.
#[derive(Debug)]
pub enum Item<'a> {
    /// An entry and its text.
    Entry(&'a str, Entry),
    /// An exception from the entries of this file and its text.
    Exception(&'a str, Entry),
    /// The error of an invalid line, which has no other items.
    Bad(LineError),
}

/// Reads a list and passes on its items with line numbers from 1. Returns the format; `None` if the file has only comments, or
/// if no line matches a format.
///
/// # Errors
/// [`Unsupported`] for an unsupported format.
pub fn read(content: &[u8], take: impl FnMut(usize, Item)) -> Result<Option<Format>, Unsupported> {
    let format = detect(content)?;
    // A slice is always readable.
    let _ = read_as(format.unwrap_or(Format::Lines), content, take);
    Ok(format)
}

/// Reads a list in a known format, as [`read`] does, a line at a time. Returns the number of lines with content.
///
/// # Errors
/// As read(2).
pub fn read_as(
    format: Format,
    mut content: impl BufRead,
    mut take: impl FnMut(usize, Item),
) -> io::Result<usize> {
    let (mut number, mut count) = (0, 0);
    let mut bytes = Vec::new();
    while content.read_until(b'\n', &mut bytes)? > 0 {
        number += 1;
        if let Some(line) = content_of(&bytes, number) {
            count += 1;
            if let Err(error) = format.line(&line, &mut |item| take(number, item)) {
                take(number, Item::Bad(error));
            }
        }
        bytes.clear();
    }
    Ok(count)
}

/// Lines with content.
fn lines(content: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    let all = content.split(|&byte| byte == b'\n').zip(1..);
    all.filter_map(|(line, number)| content_of(line, number))
}

/// A line, trimmed, if it has content; `number` counts from 1. P2P titles have any encoding, so invalid UTF-8 becomes U+FFFD,
/// which no entry contains.
fn content_of(line: &[u8], number: usize) -> Option<Cow<'_, str>> {
    let line = match number {
        1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
        _ => line,
    };
    let line = line.trim_ascii();
    (!is_comment(line)).then(|| String::from_utf8_lossy(line))
}

/// Whether a line has no content. `!` begins a comment in adblock lists; in other lists it negates an address, and such a line
/// is not ignored.
fn is_comment(line: &[u8]) -> bool {
    match line.split_first() {
        None | Some((b'#' | b';', _)) => true,
        Some((b'!', rest)) => {
            let text = str::from_utf8(rest).unwrap_or_default();
            network(text).is_err()
        }
        _ => false,
    }
}

/// The line without a trailing comment.
fn without_comment(line: &str) -> &str {
    line.find(['#', ';'])
        .and_then(|comment| line.get(..comment))
        .unwrap_or(line)
        .trim_ascii()
}

/// Addresses that blocked names are mapped to.
const SINKHOLES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

fn is_sinkhole(address: &str) -> bool {
    address
        .parse()
        .is_ok_and(|address| SINKHOLES.contains(&address))
}

/// Parses names, or domains as `*.name` or `.name`, each with its text.
fn names_of<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, Entry)>, LineError> {
    let read = |word: &'a str| {
        let name: Name = domain(word)
            .unwrap_or(word)
            .parse()
            .map_err(EntryError::from)?;
        let subject = match domain(word) {
            Some(_) => Subject::Domain(name),
            None => Subject::Name(name),
        };
        Ok((word, subject.into()))
    };
    words.map(read).collect()
}

#[cfg(test)]
mod tests;
