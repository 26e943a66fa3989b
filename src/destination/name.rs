//! Host names in canonical form for comparison: lower case, without a trailing dot, international labels as A-labels
//! (`xn--…`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::error::{HostError, quoted};

/// Longest name without the trailing dot (RFC 1035, section 2.3.4).
pub(super) const MAX_NAME: usize = 253;

/// Longest label (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// Longest international name in bytes that is converted: four for each character of the longest name. Conversion may shorten
/// a text, so a longer one could be valid, but none is in use.
const MAX_SPELLING: usize = 4 * (MAX_NAME + 1);

/// A host name in canonical form, for comparison and lookup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl FromStr for Name {
    type Err = HostError;

    /// Parses a name of letters, digits, hyphens and underscores in labels. International names are converted to A-labels as in
    /// browsers (UTS #46), so that both spellings match.
    ///
    /// A label may begin or end with a hyphen: RFC 1123 (2.1) forbids such host names, but the DNS (RFC 2181, section 11) and
    /// blocklists have them.
    ///
    /// # Errors
    /// [`HostError`]. A name whose last label is a number is rejected, as in the URL standard ("ends in a number"): there is no
    /// such domain, and inet_aton(3) reads `127.1`, `0x7f000001` and `2130706433` as addresses. Non-ASCII digits are rejected
    /// because UTS #46 maps them to ASCII ones.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let ascii = to_ascii(text)?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        let invalid = |c: &char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_');
        if let Some(invalid) = name.chars().find(invalid) {
            return Err(HostError::Character(quoted(text), invalid));
        }
        let label_fits = |label: &str| (1..=MAX_LABEL).contains(&label.len());
        if name.len() > MAX_NAME || !name.split('.').all(label_fits) {
            return Err(HostError::Labels(quoted(text)));
        }
        let name = name.to_ascii_lowercase();
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(HostError::Number(quoted(text)));
        }
        Ok(Self(name.into()))
    }
}

impl Name {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domains of the name, the nearest first: `b.c` and `c` for `a.b.c`.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let dots = (0..).zip(self.0.bytes()).filter(|(_, byte)| *byte == b'.');
        dots.filter_map(|(dot, _): (usize, u8)| self.0.get(dot + 1..))
    }

    /// Number of labels: 3 for `a.b.c`, at most 127.
    pub fn labels(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'.').count() + 1
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn to_ascii(text: &str) -> Result<Cow<'_, str>, HostError> {
    if text.len() > MAX_SPELLING {
        return Err(HostError::Labels(quoted(text)));
    }
    if text.is_ascii() {
        return Ok(text.into());
    }
    let foreign = |c: &char| !c.is_ascii() && c.is_numeric();
    if let Some(digit) = text.chars().find(foreign) {
        return Err(HostError::Character(quoted(text), digit));
    }
    let mapped = idna::domain_to_ascii(text);
    mapped
        .map(Cow::Owned)
        .map_err(|_| HostError::International(quoted(text)))
}

/// Whether inet_aton(3) or the URL standard's IPv4 parser may read a label as a number: decimal, octal, or hexadecimal, the
/// latter possibly without digits.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Name, HostError> {
        text.parse()
    }

    #[test]
    fn spellings_have_one_canonical_form() {
        for (spelling, canonical) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com.", "example.com"),
            ("_srv.a-b.example", "_srv.a-b.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.EXAMPLE.", "xn--bcher-kva.example"),
            ("bu\u{308}cher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("bücher。example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(read(spelling).unwrap().as_str(), canonical, "{spelling}");
        }
    }

    #[test]
    fn names_in_use_are_accepted() {
        for text in [
            "localhost",
            "a",
            "1e100.net",
            "3com",
            "0xg",
            "1.2.3.4.example",
            "a--b",
            // On public blocklists.
            "-sso.anbtr.com",
            "a-.example",
        ] {
            assert_eq!(read(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_name_belongs_to_every_domain_above_it() {
        let name = read("a.b.example").unwrap();
        assert_eq!(name.domains().collect::<Vec<_>>(), ["b.example", "example"]);
        assert_eq!(name.labels(), 3);
        let deepest = read(&"a.".repeat(127)).unwrap();
        assert_eq!((deepest.labels(), deepest.domains().count()), (127, 126));
    }

    #[test]
    fn lengths_are_limited_as_in_the_dns() {
        let label = "a".repeat(MAX_LABEL);
        let longest = [label.as_str(); 4].join(".")[..MAX_NAME].to_owned();
        assert!(read(&longest).is_ok());
        assert!(read(&format!("{longest}.")).is_ok());
        let long_foreign = "ü".repeat(MAX_SPELLING);
        for long in [
            format!("{longest}b"),
            format!("{label}a.example"),
            "a.".repeat(MAX_SPELLING),
            long_foreign,
        ] {
            assert!(matches!(read(&long), Err(HostError::Labels(_))), "{long}");
        }
    }
}
