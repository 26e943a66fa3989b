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
use std::net::IpAddr;

use thiserror::Error;

use super::entry::{Entry, EntryError, Subject, domain, network};
use crate::destination::Name;
use crate::destination::error::quoted;
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
    /// `!` before an entry in a list that is not an adblock list.
    #[error(
        "{0} with '!' in it may mean an exception; name exceptions with --except, or write # before a comment"
    )]
    Negated(String),
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

    /// The line, if it is `!` and an entry. `!` begins a comment in adblock lists, except before a network. In other lists it may
    /// negate any entry but a word without dots.
    fn negated(self, line: &[u8]) -> Option<Cow<'_, str>> {
        let line = String::from_utf8_lossy(line);
        let rest = line.strip_prefix('!').unwrap_or_default().trim_ascii();
        let is_entry = |format: Self| {
            let mut found = false;
            let mut take = |item: Item| {
                found |= matches!(item, Item::Entry(text, entry) if !entry.is_word(text));
            };
            format.line(rest, &mut take).is_ok() && found
        };
        let is_negated = match self {
            Self::Adblock => network(rest).is_ok(),
            _ => is_entry(self) || is_entry(Self::Lines),
        };
        is_negated.then_some(line)
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
        for line in lines_until_newline(&bytes) {
            number += 1;
            let line = trimmed(line, number);
            let read = match line.first() {
                None | Some(b'#' | b';') => continue,
                Some(b'!') => match format.negated(line) {
                    Some(text) => Err(LineError::Negated(quoted(&text))),
                    None => continue,
                },
                Some(_) => {
                    let line = String::from_utf8_lossy(line);
                    format.line(&line, &mut |item| take(number, item))
                }
            };
            count += 1;
            if let Err(error) = read {
                take(number, Item::Bad(error));
            }
        }
        bytes.clear();
    }
    Ok(count)
}

/// The lines in bytes up to a newline. A carriage return ends a line too, so that no comment hides an entry.
fn lines_until_newline(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    bytes.split(|&byte| byte == b'\r')
}

/// Lines with content, without those that begin with `!`. P2P titles have any encoding, so invalid UTF-8 becomes U+FFFD, which no
/// entry contains.
fn lines(content: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    let all = content.split(|&byte| matches!(byte, b'\n' | b'\r'));
    let all = all.zip(1..).map(|(line, number)| trimmed(line, number));
    let with_content = all.filter(|line| !matches!(line.first(), None | Some(b'#' | b';' | b'!')));
    with_content.map(String::from_utf8_lossy)
}

/// A line without the byte order mark of the first line and without space around it; `number` counts from 1.
fn trimmed(line: &[u8], number: usize) -> &[u8] {
    let line = match number {
        1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
        _ => line,
    };
    line.trim_ascii()
}

/// The line without a trailing comment.
fn without_comment(line: &str) -> &str {
    line.find(['#', ';'])
        .and_then(|comment| line.get(..comment))
        .unwrap_or(line)
        .trim_ascii()
}

/// Whether blocked names are mapped to an address: an unspecified one or any of loopback.
fn is_sinkhole(address: &str) -> bool {
    let parsed = address.parse::<IpAddr>();
    parsed.is_ok_and(|address| address.is_unspecified() || address.is_loopback())
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
