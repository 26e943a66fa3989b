//! Entries of lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

use super::ports::{Ports, PortsError};
use crate::destination::authority::Authority;
use crate::destination::error::quoted;
use crate::destination::{Host, HostError, Name};

/// Why a text is not an entry.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum EntryError {
    /// Not a host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Not a prefix length of the address family.
    #[error("{0} has no valid prefix length; expected 0 to {1}")]
    Length(String, u8),
    /// Host bits are set.
    #[error(
        "{0} has bits beyond its prefix; write {1} for the network, or leave out the length for the address"
    )]
    BeyondPrefix(String, IpNet),
    /// The second address of a range is lower than the first, or of another family.
    #[error("the range {0} ends before it begins; write the lower address first")]
    Backwards(String),
    /// Not a port or a range of ports.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// An AS number.
    #[error("{0} is the number of an autonomous system, not a host; write its networks")]
    AsNumber(String),
    /// A hexadecimal digest.
    #[error("{0} is a hash of {1} digits, not a host; remove the line")]
    Hash(String, usize),
    /// A column title.
    #[error("{0} is the title of a column, not a host; remove the line")]
    Title(String),
    /// A URL.
    #[error("{0} is a URL; write its host alone")]
    Url(String),
}

/// What an entry matches. Networks are stored as ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// IPv4 addresses, first to last.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6 addresses, first to last.
    V6(Ipv6Addr, Ipv6Addr),
    /// A name.
    Name(Name),
    /// A name and all its subdomains.
    Domain(Name),
}

impl Subject {
    /// The addresses from first to last, if they are of one family and in order. IPv4-mapped addresses become IPv4.
    pub fn range(first: IpAddr, last: IpAddr) -> Option<Self> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Some(Self::V4(first, last)),
            // A range with one IPv4-mapped end is an IPv6 range.
            _ => match (first, last) {
                (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                    Some(Self::V6(first, last))
                }
                _ => None,
            },
        }
    }

    /// Whether it includes an address.
    pub fn has(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(first, last), IpAddr::V4(address)) => (first..=last).contains(&&address),
            (Self::V6(first, last), IpAddr::V6(address)) => (first..=last).contains(&&address),
            _ => false,
        }
    }

    /// Whether it matches a name.
    pub fn names(&self, name: &Name) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Domain(domain) => {
                domain == name || name.domains().any(|above| above == domain.as_str())
            }
            Self::V4(..) | Self::V6(..) => false,
        }
    }
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The matched addresses or names.
    pub subject: Subject,
    /// The matched ports; all if the entry has none.
    pub ports: Ports,
}

impl Entry {
    /// Whether an entry of this text may be any word: a name without a dot that is not well known.
    pub(super) fn is_word(&self, text: &str) -> bool {
        match &self.subject {
            Subject::Name(name) => !text.contains('.') && name.as_str() != "localhost",
            _ => false,
        }
    }

    /// Parses an address, a network, a range, a name, or a name with its subdomains as `*.name` or `.name`, optionally with `:`
    /// and a port or a range of ports. An IPv6 entry with ports is in brackets: `[2001:db8::/32]:25`.
    ///
    /// AS numbers, hashes and column titles without a dot are rejected. A name like these is written with a trailing dot.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        if is_url(text) {
            return Err(EntryError::Url(quoted(text)));
        }
        let authority = Authority::split(text)?;
        let subject = match addresses(authority.host)? {
            Some(addresses) => addresses,
            None => names(&authority)?,
        };
        let ports = authority.port.map_or(Ok(Ports::ALL), Ports::parse)?;
        Ok(Self { subject, ports })
    }

    /// The entry, with subdomains if it is a name.
    pub fn with_subdomains(self) -> Self {
        let subject = match self.subject {
            Subject::Name(name) => Subject::Domain(name),
            subject => subject,
        };
        Self { subject, ..self }
    }
}

/// Matches all ports.
impl From<Subject> for Entry {
    fn from(subject: Subject) -> Self {
        let ports = Ports::ALL;
        Self { subject, ports }
    }
}

fn names(authority: &Authority) -> Result<Subject, EntryError> {
    if let Some(domain) = domain(authority.host)
        && !authority.bracketed
    {
        return Ok(Subject::Domain(domain.parse()?));
    }
    reject_non_host(authority.host)?;
    match authority.host()? {
        Host::Name(name) => Ok(Subject::Name(name)),
        // Addresses were handled above.
        Host::Ip(address) => Subject::range(address, address)
            .ok_or_else(|| EntryError::Backwards(quoted(authority.host))),
    }
}

/// Whether a text has `://`. Most entries have no colon, and searching for one character is several times faster than
/// searching for a string.
pub(super) fn is_url(text: &str) -> bool {
    text.split(':').skip(1).any(|rest| rest.starts_with("//"))
}

/// The domain of `*.domain` or `.domain`.
pub(super) fn domain(text: &str) -> Option<&str> {
    text.strip_prefix("*.").or_else(|| text.strip_prefix('.'))
}

/// Digits of hexadecimal digests in malware lists: MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
const DIGEST_LENGTHS: [usize; 6] = [32, 40, 56, 64, 96, 128];

/// Column titles of tables that lists are extracted from. Words with `_` are titles too.
const COLUMN_TITLES: [&str; 28] = [
    "address",
    "addresses",
    "asn",
    "cidr",
    "dest",
    "destination",
    "domain",
    "domains",
    "fqdn",
    "hash",
    "host",
    "hostname",
    "hostnames",
    "hosts",
    "indicator",
    "ioc",
    "ip",
    "ips",
    "ipv4",
    "ipv6",
    "md5",
    "netblock",
    "network",
    "prefix",
    "sha1",
    "sha256",
    "subnet",
    "url",
];

/// Rejects words that are valid names but appear in lists for other reasons.
fn reject_non_host(text: &str) -> Result<(), EntryError> {
    if text.contains('.') {
        return Ok(());
    }
    let all = |text: &str, is: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| is(&b));
    let number = match text.split_at_checked(2) {
        Some((start, number)) if start.eq_ignore_ascii_case("as") => number,
        _ => "",
    };
    if all(number, u8::is_ascii_digit) {
        Err(EntryError::AsNumber(quoted(text)))
    } else if DIGEST_LENGTHS.contains(&text.len()) && all(text, u8::is_ascii_hexdigit) {
        Err(EntryError::Hash(quoted(text), text.len()))
    } else if text.contains('_')
        || COLUMN_TITLES
            .iter()
            .any(|title| text.eq_ignore_ascii_case(title))
    {
        Err(EntryError::Title(quoted(text)))
    } else {
        Ok(())
    }
}

/// The addresses of a text; `None` if it is not an address, a network or a range.
fn addresses(text: &str) -> Result<Option<Subject>, EntryError> {
    if let Some((address, _)) = text.split_once('/') {
        // Other text with a slash is rejected as a name.
        return match address.parse::<IpAddr>() {
            Ok(_) => network(text).map(Some),
            Err(_) => Ok(None),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Subject::range(address, address));
    }
    let ends = text
        .split_once('-')
        .map(|(first, last)| (first.parse(), last.parse()));
    match ends {
        Some((Ok(first), Ok(last))) => Subject::range(first, last)
            .map(Some)
            .ok_or_else(|| EntryError::Backwards(quoted(text))),
        // Some names begin like a range: 192.0.2.1-static.example.
        _ => Ok(None),
    }
}

/// The addresses from first to last, if they form a range.
pub fn range(first: &str, last: &str) -> Option<Subject> {
    Subject::range(first.parse().ok()?, last.parse().ok()?)
}

/// Parses an address or a network.
///
/// # Errors
/// [`EntryError::Length`] and [`EntryError::BeyondPrefix`] for an invalid network, [`EntryError::Host`] for an invalid address.
pub fn network(text: &str) -> Result<Subject, EntryError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let no_address = || match address.parse::<Host>() {
        Err(error) => error,
        Ok(_) => HostError::Ipv6(quoted(text)),
    };
    let address: IpAddr = address.parse().map_err(|_| no_address())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let wrong = || EntryError::Length(quoted(text), most);
    let length = match length {
        None => most,
        Some(length) => {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (length.len() == 1 || !length.starts_with('0'));
            length.parse().ok().filter(|_| plain).ok_or_else(wrong)?
        }
    };
    let network = IpNet::new(address, length).map_err(|_| wrong())?;
    if network.addr() != network.network() {
        return Err(EntryError::BeyondPrefix(quoted(text), network.trunc()));
    }
    let (first, last) = match network {
        IpNet::V4(network) => (network.network().into(), network.broadcast().into()),
        IpNet::V6(network) => (network.network().into(), network.broadcast().into()),
    };
    Subject::range(first, last).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> Subject {
        Subject::range(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn urls_have_a_colon_and_two_slashes() {
        for url in ["http://a.example/", "a:b://c", "://", "::://"] {
            assert!(is_url(url), "{url}");
        }
        for other in ["", "a.example", "//", "a//b:1", "2001:db8::/32", ":/", "a:"] {
            assert!(!is_url(other), "{other}");
        }
    }

    #[test]
    fn entries_parse_in_every_form() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let one = |text: &str| range(text, text);
        for (text, subject, ports) in [
            ("192.0.2.1", one("192.0.2.1"), None),
            ("192.0.2.0/24", range("192.0.2.0", "192.0.2.255"), None),
            ("0.0.0.0/0", range("0.0.0.0", "255.255.255.255"), None),
            ("192.0.2.1-192.0.3.9", range("192.0.2.1", "192.0.3.9"), None),
            ("192.0.2.1:25", one("192.0.2.1"), Some("25")),
            (
                "192.0.2.0/31:25-30",
                range("192.0.2.0", "192.0.2.1"),
                Some("25-30"),
            ),
            (
                "192.0.2.1-192.0.2.3:80",
                range("192.0.2.1", "192.0.2.3"),
                Some("80"),
            ),
            ("2001:DB8::1", one("2001:db8::1"), None),
            ("[2001:db8::1]:80-81", one("2001:db8::1"), Some("80-81")),
            ("[2001:db8::1]", one("2001:db8::1"), None),
            ("2001:db8::/127", range("2001:db8::", "2001:db8::1"), None),
            (
                "[2001:db8::/127]:80",
                range("2001:db8::", "2001:db8::1"),
                Some("80"),
            ),
            ("::1-::5", range("::1", "::5"), None),
            ("::ffff:192.0.2.1", one("192.0.2.1"), None),
            (
                "::ffff:192.0.2.0/120",
                range("192.0.2.0", "192.0.2.255"),
                None,
            ),
            ("::ffff:0:0/96", range("0.0.0.0", "255.255.255.255"), None),
            ("Example.com.", Subject::Name(name("example.com")), None),
            (
                "example.com:443",
                Subject::Name(name("example.com")),
                Some("443"),
            ),
            ("*.Example.com", Subject::Domain(name("example.com")), None),
            (".Example.com.", Subject::Domain(name("example.com")), None),
            (".zip:443", Subject::Domain(name("zip")), Some("443")),
            ("localhost", Subject::Name(name("localhost")), None),
            ("as1234.", Subject::Name(name("as1234")), None),
            (
                "as1234.example",
                Subject::Name(name("as1234.example")),
                None,
            ),
            ("asx", Subject::Name(name("asx")), None),
            ("as", Subject::Name(name("as")), None),
            (
                "_dmarc.example",
                Subject::Name(name("_dmarc.example")),
                None,
            ),
            (
                "192.0.2.1-static.example",
                Subject::Name(name("192.0.2.1-static.example")),
                None,
            ),
        ] {
            let ports = ports.map_or(Ports::ALL, |ports| Ports::parse(ports).unwrap());
            assert_eq!(Entry::parse(text), Ok(Entry { subject, ports }), "{text}");
        }
    }

    #[test]
    fn invalid_entries_have_a_reason() {
        for (text, piece) in [
            ("", "is empty"),
            ("192.0.2.1/24", "write 192.0.2.0/24"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("192.0.2.0/33", "expected 0 to 32"),
            ("192.0.2.0/", "expected 0 to 32"),
            ("192.0.2.0/024", "expected 0 to 32"),
            ("192.0.2.0/+24", "expected 0 to 32"),
            ("2001:db8::/129", "expected 0 to 128"),
            ("192.0.2.0/24/24", "expected 0 to 32"),
            ("192.0.2.2-192.0.2.1", "before it begins"),
            ("192.0.2.2-::1", "before it begins"),
            ("192.0.2.1-192.0.2", "number"),
            ("192.0.2", "number"),
            ("192.0.2.01", "number"),
            ("10/8", "in it"),
            ("192.0.2.1 192.0.2.2", "in it"),
            ("*", "in it"),
            ("*.*.example", "in it"),
            ("a.*.example", "in it"),
            ("*.", "is empty"),
            (".", "is empty"),
            ("..example", "not a name"),
            (".*.example", "in it"),
            ("AS1234", "\"AS1234\" is the number of an autonomous system"),
            ("as0", "autonomous system"),
            ("AS1234:80", "autonomous system"),
            ("d41d8cd98f00b204e9800998ecf8427e", "a hash of 32 digits"),
            (
                "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
                "a hash of 40 digits",
            ),
            (
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "a hash of 64 digits",
            ),
            ("IP", "the title of a column"),
            ("first_seen_utc", "the title of a column"),
            ("http://evil.example/x", "is a URL"),
            ("https://192.0.2.1:8080", "is a URL"),
            ("*.1", "number"),
            ("fe80::1%eth0", "zone"),
            ("192.0.2.1:", "not a port"),
            ("192.0.2.1:0-5", "not a port"),
            ("192.0.2.1:5-4", "lower one first"),
            ("[example.com]:80", "not an IPv6"),
            ("[2001:db8::1", "bracketed"),
        ] {
            let error = Entry::parse(text).unwrap_err().to_string();
            assert!(error.contains(piece), "{text}: {error}");
        }
    }
}
