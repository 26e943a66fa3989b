//! Addresses in options: a host or an address with an optional port; IPv6 in brackets, with an optional zone.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::error::CliError;

/// The requested address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Any family.
    Any,
    /// `-4`.
    V4,
    /// `-6`.
    V6,
}

impl Family {
    /// Whether an address belongs to the family.
    pub(super) fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::V4 => "IPv4 ",
            Self::V6 => "IPv6 ",
        }
    }
}

/// Splits `[v6%zone]:port`, `[v6]`, `v6`, `host:port` or `host`.
fn split(text: &str) -> Result<(&str, Option<u16>), String> {
    let port = |port: &str| {
        port.parse()
            .map(Some)
            .map_err(|_| format!("'{port}' is not a port, expected 0 to 65535"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| "the bracket is not closed".to_owned())?;
        return match rest.strip_prefix(':') {
            Some(number) => Ok((host, port(number)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("'{rest}' follows the bracket, expected :PORT")),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, number)) => Ok((host, port(number)?)),
        None => Ok((text, None)),
    }
}

/// The addresses of `text`, the value of `option`, in one family and in the resolver's order. `because` is appended to the error
/// for an address of another family.
///
/// # Errors
/// A usage error for an invalid address or another family; a runtime error for a name that does not resolve.
pub(super) fn resolve(
    option: &str,
    text: &str,
    default_port: u16,
    family: Family,
    because: &str,
) -> Result<Vec<SocketAddr>, CliError> {
    let advice = format!(
        "write it like 192.0.2.7:{default_port}, [2001:db8::7]:{default_port}, [fe80::7%eth0]:{default_port} or host:{default_port}"
    );
    let (host, port) = split(text)
        .map_err(|error| CliError::Usage(format!("{option} {text}: {error}; {advice}")))?;
    if host.is_empty() {
        return Err(CliError::Usage(format!(
            "{option} {text} names no host; {advice}"
        )));
    }
    let found = (host, port.unwrap_or(default_port)).to_socket_addrs();
    let found = found.map_err(|error| {
        CliError::Runtime(format!(
            "{option} {text} cannot be resolved: {error}; {advice}"
        ))
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if family.has(&address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    let sentence = format!("{option} {text} has no {}address{because}", family.name());
    match host.parse::<IpAddr>() {
        Ok(_) => Err(CliError::Usage(sentence)),
        Err(_) => Err(CliError::Runtime(sentence)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sentence(failure: CliError) -> String {
        match failure {
            CliError::Usage(sentence) | CliError::Runtime(sentence) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_spelling_is_split_into_host_and_port() {
        for (text, host, port) in [
            ("192.0.2.7", "192.0.2.7", None),
            ("192.0.2.7:80", "192.0.2.7", Some(80)),
            ("example", "example", None),
            ("example:80", "example", Some(80)),
            ("::1", "::1", None),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("[::1]", "::1", None),
            ("[::1]:80", "::1", Some(80)),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", Some(80)),
        ] {
            assert_eq!(split(text), Ok((host, port)), "{text}");
        }
        for text in ["[::1", "[::1]80", "[::1]:", "host:", "host:99999", "host:x"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_port_is_added_and_the_zone_is_kept() {
        let one = |text: &str| resolve("--to", text, 5_210, Family::Any, "").unwrap()[0];
        assert_eq!(one("127.0.0.1").to_string(), "127.0.0.1:5210");
        assert_eq!(one("[::1]:7").to_string(), "[::1]:7");
        match one("[fe80::1%lo]:7") {
            SocketAddr::V6(address) => assert_ne!(address.scope_id(), 0),
            address => panic!("{address}"),
        }
    }

    #[test]
    fn errors_name_the_option() {
        for (text, family, words) in [
            ("", Family::Any, "names no host"),
            (":80", Family::Any, "names no host"),
            ("127.0.0.1", Family::V6, "has no IPv6 address"),
            ("[::1]", Family::V4, "has no IPv4 address"),
            ("host:port", Family::Any, "'port' is not a port"),
        ] {
            let error = sentence(resolve("--to", text, 5_210, family, "").unwrap_err());
            assert!(
                error.starts_with("--to ") && error.contains(words),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]:%a-f0-9.]{0,24}") {
            let _ = split(&text);
        }
    }
}
