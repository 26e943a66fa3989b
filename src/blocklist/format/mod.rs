//! The formats that lists come in, told apart by what is in them.

mod hosts;
mod json;
mod lines;
mod ranges;

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::entry::{Entry, EntryError};

/// Why a line is none of its list's format.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum LineError {
    /// No entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// What comes after an entry is no count.
    #[error(
        "{0} comes after an entry and is not a number; write one entry a line, and # before a comment"
    )]
    Count(String),
    /// Not JSON, or not an object.
    #[error("it is not a JSON object, from column {0} on; write one object a line")]
    Json(usize),
    /// JSON, but neither a network nor the metadata.
    #[error("the object has no \"cidr\"; write it like {{\"cidr\":\"192.0.2.0/24\"}}")]
    NoCidr,
    /// No address before the names.
    #[error("{0} is not an address; a hosts file has an address and then names")]
    HostsAddress(String),
    /// An address alone.
    #[error("no name follows {0}; a hosts file has an address and then names")]
    HostsName(String),
    /// A name that is sent somewhere: a hosts file of another kind.
    #[error(
        "{0} is mapped to {1}, which blocks nothing; a blocklist maps names to 0.0.0.0, ::, 127.0.0.1 or ::1"
    )]
    Mapped(String, String),
    /// No range where one must be.
    #[error("{0} is not a range of IPv4 addresses; write it like 192.0.2.1-192.0.2.9")]
    Range(String),
    /// The second column of a DAT file.
    #[error("the level {0} is not a number from 0 to 255")]
    Level(String),
}

/// A way of writing lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An entry a line, with `#` or `;` before comments, and perhaps a tab and a count: FireHOL, Spamhaus DROP, ipsum.
    Lines,
    /// A JSON object a line, with the network in `cidr`: Spamhaus DROP.
    Json,
    /// An address that leads nowhere and the names to send there.
    Hosts,
    /// A title, a colon and a range of IPv4 addresses: PeerGuardian's P2P.
    P2p,
    /// A range of zero-padded IPv4 addresses, a level and a title, with commas between: eMule's DAT.
    Dat,
}

/// In the order they are tried in. No line that one reads means something else in one after it.
const FORMATS: [Format; 5] = [
    Format::Lines,
    Format::Json,
    Format::P2p,
    Format::Dat,
    Format::Hosts,
];

impl Format {
    /// The format of a list: the first that reads a line of it, at the first line that any of them reads.
    pub fn of(content: &[u8]) -> Option<Self> {
        lines(content).find_map(|(_, line)| {
            let reads = |format: &&Self| format.line(&line, &mut |_, _| ()).is_ok();
            FORMATS.iter().find(reads).copied()
        })
    }

    /// Hands over the entries on a line, each with its text.
    fn line(self, line: &str, take: &mut impl FnMut(&str, Entry)) -> Result<(), LineError> {
        match self {
            Self::Lines => lines::read(line, take),
            Self::Json => json::read(line, take),
            Self::Hosts => hosts::read(line, take),
            Self::P2p => ranges::read_p2p(line, take),
            Self::Dat => ranges::read_dat(line, take),
        }
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
        })
    }
}

/// What a line of a list holds.
#[derive(Debug)]
pub enum Item<'a> {
    /// An entry, and its text.
    Entry(&'a str, Entry),
    /// What is wrong with the line. None of its entries counts.
    Bad(LineError),
}

/// Reads a list, and hands over what is on each line, counted from 1. A list of comments and nothing else is empty, and
/// has no format.
pub fn read(content: &[u8], mut take: impl FnMut(usize, Item)) -> Option<Format> {
    let format = Format::of(content);
    for (number, line) in lines(content) {
        let read = format
            .unwrap_or(Format::Lines)
            .line(&line, &mut |text, entry| {
                take(number, Item::Entry(text, entry))
            });
        if let Err(error) = read {
            take(number, Item::Bad(error));
        }
    }
    format
}

/// The lines that say something, counted from 1 with the others, without space around them. Titles in P2P lists are in
/// any encoding, so what is no UTF-8 becomes U+FFFD, which no entry has.
fn lines(content: &[u8]) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let all = content.split(|&byte| byte == b'\n').zip(1..);
    all.map(|(line, number)| (number, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#") && !line.starts_with(b";"))
        .map(|(number, line)| (number, String::from_utf8_lossy(line)))
}

/// Without the comment at its end.
fn without_comment(line: &str) -> &str {
    line.find(['#', ';'])
        .and_then(|comment| line.get(..comment))
        .unwrap_or(line)
        .trim_ascii()
}

#[cfg(test)]
mod tests;
