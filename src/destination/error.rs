//! Errors of hosts and destinations in text form, worded for users and for replies to clients of the proxy.

use thiserror::Error;

/// Why a text is not a destination, and how to write one. The text is quoted, on one line and shortened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// Empty, or only a dot.
    #[error("the host is empty; write an address or a name")]
    Empty,
    /// Has a colon or brackets and is not IPv6 (RFC 4291).
    #[error(
        "{0} is not an IPv6 address; write it like 2001:db8::1, or [2001:db8::1]:443 with a port"
    )]
    Ipv6(String),
    /// An IPv6 address with a zone (RFC 4007, section 11).
    #[error("{0} has a zone id, which is valid on one host only; leave it out")]
    Zone(String),
    /// Ends in a number but is not an IPv4 address in its standard form; resolvers may read it as one.
    #[error(
        "{0} ends in a number and is not an IPv4 address; write four decimal numbers without leading zeros, \
         like 127.0.0.1"
    )]
    Number(String),
    /// A character that names do not have.
    #[error("{0} has {1:?} in it; a name has only letters, digits 0 to 9, '-', '_' and '.'")]
    Character(String, char),
    /// A label that is empty or too long, or a name that is too long.
    #[error("{0} is not a name; a label has 1 to 63 characters and a name at most 253")]
    Labels(String),
    /// Not a valid international name.
    #[error("{0} is not a valid international name; write its A-labels (xn--...)")]
    International(String),
    /// Unbalanced brackets, or brackets followed by anything but a port.
    #[error("{0} is not bracketed correctly; write it like [2001:db8::1]:443")]
    Brackets(String),
    /// No port, or IPv6 without brackets.
    #[error(
        "{0} is not HOST:PORT; write it like 127.0.0.1:443, with IPv6 in brackets like [::1]:443"
    )]
    NoPort(String),
    /// Not a port in plain decimal digits.
    #[error("{0} is not a port; expected 1 to 65535")]
    Port(String),
}

/// Untrusted text for logs and messages: quoted, on one line and shortened.
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
    fn quoted_text_is_short_and_on_one_line() {
        assert_eq!(quoted("a\0\"b"), r#""a\0\"b""#);
        let quoted = quoted(&"a\n".repeat(500));
        assert!(quoted.len() < 200 && !quoted.contains('\n'));
    }
}
