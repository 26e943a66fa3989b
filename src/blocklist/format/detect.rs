//! Detection of a list's format by content: the format that reads most of the first lines, or among equals the one that reads
//! an earlier line.
//!
//! A file in a known but unsupported format is rejected as a whole with the name of the format. Otherwise its first line would
//! be rejected for a misleading reason, or some lines would pass as names.

use std::cmp::Reverse;
use std::fmt;

use super::{FORMATS, Format, LineError, adblock, lines};
use crate::blocklist::entry::{EntryError, is_url};

/// Lines that are sampled.
const SAMPLE: usize = 200;

/// Formats with unmistakable line prefixes.
const MARKED: [(Format, &[&str]); 3] = [
    (Format::Adblock, &["||", "@@||"]),
    (Format::Dnsmasq, &["address=/", "server=/", "local=/"]),
    (Format::Unbound, &["local-zone:", "local-data:"]),
];

/// An unsupported format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// Compressed or an archive, by this program.
    Compressed(&'static str),
    /// UTF-16 or UTF-32.
    Utf16,
    /// Not text.
    Binary,
    /// HTML or XML.
    Html,
    /// JSON other than Spamhaus JSON lines.
    Json,
    /// Comma-separated values.
    Csv,
    /// A DNS zone file, such as a response policy zone.
    Rpz,
    /// Output of iptables-save.
    Iptables,
    /// An nft ruleset.
    Nftables,
    /// URLs.
    Urls,
}

/// The supported formats, for messages.
const SUPPORTED: &str = "supported are an entry a line (addresses, networks, ranges, names), hosts, adblock (||name^), \
    dnsmasq, unbound, ipset save, DShield, P2P, DAT and Spamhaus JSON lines";

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let what = match self {
            Self::Compressed(by) => {
                return write!(f, "it is compressed ({by}); decompress it first");
            }
            Self::Utf16 => return write!(f, "it is UTF-16 text; convert it to UTF-8 first"),
            Self::Binary => "binary data",
            Self::Html => "a web page (HTML or XML), perhaps an error page",
            Self::Json => "a JSON document",
            Self::Csv => "a table of comma-separated values (CSV)",
            Self::Rpz => "a DNS zone file, perhaps a response policy zone (RPZ)",
            Self::Iptables => "the output of iptables-save",
            Self::Nftables => "an nft ruleset",
            Self::Urls => "a list of URLs",
        };
        write!(
            f,
            "it looks like {what}, which is not supported; {SUPPORTED}"
        )
    }
}

impl std::error::Error for Unsupported {}

/// The format of a list; `None` if no line matches any format.
///
/// # Errors
/// [`Unsupported`], if few lines match a supported format and the content matches an unsupported one.
pub fn detect(content: &[u8]) -> Result<Option<Format>, Unsupported> {
    if let Some(by) = compressed(content) {
        return Err(Unsupported::Compressed(by));
    }
    if is_utf16(content) {
        return Err(Unsupported::Utf16);
    }
    let sample: Vec<_> = lines(content).take(SAMPLE).collect();
    let sample: Vec<&str> = sample.iter().map(AsRef::as_ref).collect();
    let format = match best(&sample) {
        Ok(format) => return Ok(format),
        Err(format) => format,
    };
    // Configurations and browser lists have many unsupported lines, whose errors only their own format explains.
    let looks_like = |starts: &[&str]| {
        let is = |line: &&str| starts.iter().any(|start| line.starts_with(start));
        sample.iter().any(is)
    };
    for (format, starts) in MARKED {
        if looks_like(starts) {
            return Ok(Some(format));
        }
    }
    unsupported(content, &sample).map_or(Ok(format), Err)
}

/// The format of a list that starts with `start`, if the start determines it as [`detect`] does for the whole content.
pub(in crate::blocklist) fn detect_start(start: &[u8]) -> Option<Format> {
    // The last line may be incomplete.
    let end = start.iter().rposition(|&byte| byte == b'\n')?;
    let start = start.get(..end)?;
    if compressed(start).is_some() || is_utf16(start) {
        return None;
    }
    let sample: Vec<_> = lines(start).take(SAMPLE).collect();
    if sample.len() < SAMPLE {
        return None;
    }
    let sample: Vec<&str> = sample.iter().map(AsRef::as_ref).collect();
    best(&sample).ok().flatten()
}

/// The format that reads most lines of a sample; an error if it reads less than half of them.
fn best(sample: &[&str]) -> Result<Option<Format>, Option<Format>> {
    if sample.first().is_some_and(|line| adblock::is_title(line)) {
        return Ok(Some(Format::Adblock));
    }
    let mut best = (0, Reverse(0));
    let mut format = None;
    for candidate in FORMATS {
        let is_read = |line: &&str| reads(candidate, line);
        let first = sample.iter().position(is_read);
        let count = sample.iter().filter(|line| is_read(line)).count();
        let rank = (count, Reverse(first.unwrap_or(sample.len())));
        if count > 0 && rank > best {
            (best, format) = (rank, Some(candidate));
        }
    }
    match 2 * best.0 >= sample.len() {
        true => Ok(format),
        false => Err(format),
    }
}

fn is_utf16(content: &[u8]) -> bool {
    content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff")
}

/// Whether a line is in a format. AS numbers count, although they block nothing.
fn reads(format: Format, line: &str) -> bool {
    matches!(
        format.line(line, &mut |_| ()),
        Ok(()) | Err(LineError::Entry(EntryError::AsNumber(_)))
    )
}

/// The compressing program, by magic number.
fn compressed(content: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], _); 6] = [
        (b"\x1f\x8b", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    ];
    let found = kinds
        .into_iter()
        .find(|(start, _)| content.starts_with(start));
    found.map(|(_, by)| by)
}

fn unsupported(content: &[u8], sample: &[&str]) -> Option<Unsupported> {
    let first = sample.first()?;
    let any = |is: fn(&str) -> bool| sample.iter().any(|line| is(line));
    let most =
        |is: fn(&str) -> bool| 2 * sample.iter().filter(|line| is(line)).count() >= sample.len();
    let kinds = [
        (Unsupported::Html, first.starts_with('<')),
        (Unsupported::Json, first.starts_with(['{', '['])),
        (Unsupported::Iptables, any(is_iptables)),
        (Unsupported::Nftables, any(is_nftables)),
        (Unsupported::Rpz, any(is_zone)),
        // A table may have URLs, so it is checked first.
        (Unsupported::Csv, most(is_csv)),
        (Unsupported::Urls, most(is_url)),
        (Unsupported::Binary, content.contains(&0)),
    ];
    kinds.into_iter().find_map(|(kind, is)| is.then_some(kind))
}

fn is_iptables(line: &str) -> bool {
    let tables = ["*filter", "*nat", "*mangle", "*raw", "*security"];
    line.starts_with("-A ") || tables.contains(&line)
}

fn is_nftables(line: &str) -> bool {
    line == "flush ruleset"
        || line.starts_with("add rule ")
        || line.starts_with("table ") && line.ends_with('{')
}

/// Whether a line begins with a value and a comma. Words before the comma are a sentence or another format.
fn is_csv(line: &str) -> bool {
    line.split_once(',')
        .is_some_and(|(first, _)| first.starts_with('"') || !first.contains(' '))
}

/// A directive or record of a zone file: `NAME [TTL] [IN] TYPE DATA` (RFC 1035, section 5.1).
fn is_zone(line: &str) -> bool {
    let mut kinds = line.split_ascii_whitespace().skip(1).take(3);
    line.starts_with("$TTL")
        || line.starts_with("$ORIGIN")
        || kinds.any(|word| matches!(word, "CNAME" | "SOA" | "NS"))
}
