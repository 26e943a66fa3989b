//! What is wrong with a host as text, in sentences for a user and for the error line of a proxy's client.

use thiserror::Error;

/// Why a text is no destination, and how to write one. What was given is quoted, on one line, and cut short.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nothing, or only a dot.
    #[error("the host is empty; write an address or a name")]
    Empty,
    /// Has a colon or brackets, and is not IPv6 as RFC 4291 writes it.
    #[error(
        "{0} is not an IPv6 address; write it like 2001:db8::1, or [2001:db8::1]:443 with a port"
    )]
    Ipv6(String),
    /// An IPv6 address with a zone (RFC 4007, section 11).
    #[error("{0} has a zone id, which means something on one host only; leave it out")]
    Zone(String),
    /// Ends in a number: a short, octal, hexadecimal or decimal form of an address, or none at all.
    #[error(
        "{0} ends in a number and is not an IPv4 address; write four decimal numbers without leading zeros, \
         like 127.0.0.1"
    )]
    Number(String),
    /// A character that no name has.
    #[error("{0} has {1:?} in it; a name is of letters, the digits 0 to 9, '-', '_' and '.'")]
    Character(String, char),
    /// A label that is empty or too long, or too many of them.
    #[error("{0} is not a name, which has 1 to 63 characters between two dots and 253 in all")]
    Labels(String),
    /// Not a valid international name.
    #[error("{0} is not a valid international name; write its A-labels (xn--...)")]
    International(String),
    /// An opening bracket without the closing one, or something other than a port after it.
    #[error("{0} is not bracketed right; write it like [2001:db8::1]:443")]
    Brackets(String),
    /// A port is missing; IPv6 without brackets is among these.
    #[error(
        "{0} is not HOST:PORT; write it like 127.0.0.1:443, with IPv6 in brackets like [::1]:443"
    )]
    NoPort(String),
    /// Not a port in plain decimal.
    #[error("{0} is not a port; choose 1 to 65535")]
    Port(String),
}

/// What somebody wrote, fit for a log: quoted, on one line, and not too much of it.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let mut start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(quoted("a\0\"b"), r#""a\0\"b""#);
        let quoted = quoted(&"a\n".repeat(500));
        assert!(quoted.len() < 200 && !quoted.contains('\n'));
    }
}
