//! Host names in the one form they are compared in: lower case, without the trailing dot, international
//! labels as A-labels (`xn--…`).

use std::fmt;

use super::host::HostError;

/// The longest name, without the trailing dot, and the longest label (RFC 1035, section 2.3.4).
const LONGEST: (usize, usize) = (253, 63);

/// A host name in its canonical form. Resolve this, not the text it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Reads a name of letters, digits, hyphens and underscores, a dot between its labels. Names in other scripts
    /// are turned into A-labels as a browser does (UTS #46), so that both spellings match.
    ///
    /// # Errors
    /// What is wrong with it. A name whose last label is a number is refused, as in the URL standard ("ends in a
    /// number"): no such domain exists, and inet_aton(3) takes `127.1`, `0x7f000001` and `2130706433`
    /// for addresses. Digits other than 0 to 9 are refused too: UTS #46 would turn them into those.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let mut ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            to_ascii(text)?
        };
        if ascii.ends_with('.') {
            ascii.pop();
        }
        let stranger = |c: &char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_');
        if let Some(stranger) = ascii.chars().find(stranger) {
            return Err(HostError::Character(text.to_owned(), stranger));
        }
        if ascii.is_empty() {
            return Err(HostError::Empty(text.to_owned()));
        }
        let (longest, longest_label) = LONGEST;
        let label_fits = |label: &str| (1..=longest_label).contains(&label.len());
        if ascii.len() > longest || !ascii.split('.').all(label_fits) {
            return Err(HostError::Labels(text.to_owned()));
        }
        if ascii.rsplit('.').next().is_some_and(is_number) {
            return Err(HostError::Number(text.to_owned()));
        }
        Ok(Self(ascii.into()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domains it is in, from the nearest: `b.c` and `c` for `a.b.c`.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let dots = self.0.match_indices('.');
        dots.filter_map(|(dot, _)| self.0.get(dot + 1..))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn to_ascii(text: &str) -> Result<String, HostError> {
    let foreign = |c: &char| !c.is_ascii() && c.is_numeric();
    if let Some(digit) = text.chars().find(foreign) {
        return Err(HostError::Character(text.to_owned(), digit));
    }
    idna::domain_to_ascii(text).map_err(|_| HostError::International(text.to_owned()))
}

/// Whether inet_aton(3) may take a label for a number.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_becomes_one() {
        for (spelling, canonical) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com.", "example.com"),
            ("_srv.a-b.example", "_srv.a-b.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.EXAMPLE.", "xn--bcher-kva.example"),
            ("bu\u{308}cher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("bücher。example", "xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("0xg", "0xg"),
        ] {
            let name = Name::parse(spelling);
            assert_eq!(name.unwrap().as_str(), canonical, "{spelling}");
        }
    }

    #[test]
    fn a_name_is_in_every_domain_above_it() {
        let name = Name::parse("a.b.example").unwrap();
        assert_eq!(name.domains().collect::<Vec<_>>(), ["b.example", "example"]);
    }

    #[test]
    fn lengths_are_those_of_the_dns() {
        let label = "a".repeat(63);
        let longest = [label.as_str(); 4].join(".")[..253].to_owned();
        assert!(Name::parse(&longest).is_ok());
        assert!(Name::parse(&format!("{longest}.")).is_ok());
        for long in [format!("{longest}b"), format!("{label}a.example")] {
            assert!(
                matches!(Name::parse(&long), Err(HostError::Labels(_))),
                "{long}"
            );
        }
    }
}
