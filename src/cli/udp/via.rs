//! The relay of `--via`.

use std::net::SocketAddr;

use clap::Args;

use crate::cli::args::Udp;
use crate::cli::endpoint::{self, Family};
use crate::cli::error::CliError;
use crate::udp::client::Via;

/// How a relay is written.
const EXPECTED: &str = "expected udp://HOST:PORT";

#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct ViaArgs {
    /// Relay that all datagrams go through, both ways; the control connection stays direct. udp:// forwards to the UDP port of the
    /// server; without --to, to that of --port
    #[arg(long, value_name = "URL", value_parser = RelayUrl::parse, help_heading = "Network")]
    pub(in crate::cli) via: Option<RelayUrl>,
    /// UDP and TCP port of the receiver on this host, to which the relay forwards
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "via", conflicts_with = "to", help_heading = "Network")]
    pub(in crate::cli) port: Option<u16>,
}

/// A value of `--via`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct RelayUrl {
    /// HOST:PORT.
    at: String,
}

impl RelayUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let at = text.strip_prefix("udp://").ok_or(EXPECTED)?;
        match at.rsplit_once(':') {
            Some((host, port))
                if !host.is_empty() && port.parse::<u16>().is_ok_and(|of| of > 0) =>
            {
                Ok(Self { at: at.to_owned() })
            }
            _ => Err(EXPECTED.to_owned()),
        }
    }

    /// The relay in records.
    pub(super) fn name(&self) -> String {
        format!("udp://{}", self.at)
    }
}

/// The relay of a run, if there is one. `servers` are the addresses of `--to` or `--echo`.
///
/// # Errors
/// A usage error for options that exclude each other; as [`endpoint::resolve`].
pub(super) fn relay(
    args: &Udp,
    servers: Option<&[SocketAddr]>,
    family: Family,
) -> Result<Option<Via>, CliError> {
    let Some(url) = &args.via.via else {
        return Ok(None);
    };
    if args.traffic.multicast.is_some() {
        return Err(CliError::usage(
            "--via cannot be used with --multicast: a relay forwards to one server",
        ));
    }
    if servers.is_none() && args.via.port.is_none() {
        return Err(CliError::usage(format!(
            "{} forwards to one UDP port: name it with --port, or its server with --to",
            url.name()
        )));
    }
    let found = endpoint::resolve("--via", &url.at, 0, family, "")?;
    Ok(found.first().copied().map(Via::Udp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_a_scheme_a_host_and_a_port() {
        for text in ["udp://127.0.0.1:9000", "udp://[::1]:9000", "udp://relay:1"] {
            assert_eq!(RelayUrl::parse(text).unwrap().name(), text);
        }
        for text in [
            "",
            "127.0.0.1:9000",
            "udp://",
            "udp://:9000",
            "udp://relay",
            "udp://relay:0",
            "udp://relay:65536",
            "tcp://relay:1",
        ] {
            assert!(RelayUrl::parse(text).is_err(), "{text}");
        }
    }
}
