//! The relay of `--via`.

use std::net::SocketAddr;

use clap::Args;

use crate::cli::args::Udp;
use crate::cli::endpoint::{self, Family};
use crate::cli::error::CliError;
use crate::protocol::User;
use crate::protocol::socks5::datagram::{V4_HEADER, V6_HEADER};
use crate::udp::client::Via;
use crate::udp::engine::offload::MAX_PAYLOAD;
use crate::udp::plan::Plan;
use crate::udp::wire::header::HEADER;

/// How a relay is written.
const EXPECTED: &str = "expected udp://HOST:PORT or socks5://[USER:PASSWORD@]HOST:PORT";

/// The port in the advice of an error. A relay has no default port, so it is no other relay's.
const EXAMPLE_PORT: u16 = 1_080;

#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct ViaArgs {
    /// Relay that all datagrams go through, both ways; the control connection stays direct. udp:// forwards to the UDP port of the
    /// server, or without --to to that of --port; socks5:// is the UDP relay of a proxy (UDP ASSOCIATE), whose header of 10 or 22 bytes
    /// precedes each datagram
    #[arg(long, value_name = "URL", value_parser = RelayUrl::parse, help_heading = "Network")]
    pub(in crate::cli) via: Option<RelayUrl>,
    /// UDP and TCP port of the receiver on this host, to which the relay forwards
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "via", conflicts_with = "to", help_heading = "Network")]
    pub(in crate::cli) port: Option<u16>,
}

/// A value of `--via`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct RelayUrl {
    is_socks5: bool,
    user: Option<User>,
    /// HOST:PORT.
    at: String,
}

impl RelayUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let (is_socks5, rest) = match text.split_once("://") {
            Some(("udp", rest)) => (false, rest),
            Some(("socks5", rest)) => (true, rest),
            _ => return Err(EXPECTED.to_owned()),
        };
        let (user, at) = match rest.rsplit_once('@') {
            Some((user, at)) if is_socks5 => {
                let (name, password) = user.split_once(':').ok_or(EXPECTED)?;
                let user = User::new(name, password).map_err(|error| error.to_string())?;
                (Some(user), at)
            }
            _ => (None, rest),
        };
        match at.rsplit_once(':') {
            Some((host, port))
                if !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0) =>
            {
                let at = at.to_owned();
                Ok(Self {
                    is_socks5,
                    user,
                    at,
                })
            }
            _ => Err(EXPECTED.to_owned()),
        }
    }

    /// The relay in records, without user and password.
    pub(super) fn name(&self) -> String {
        let scheme = if self.is_socks5 { "socks5" } else { "udp" };
        format!("{scheme}://{}", self.at)
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
    if !url.is_socks5 && servers.is_none() && args.via.port.is_none() {
        return Err(CliError::usage(format!(
            "{} forwards to one UDP port: name it with --port, or its server with --to",
            url.name()
        )));
    }
    let found = endpoint::resolve("--via", &url.at, EXAMPLE_PORT, family, "")?;
    let via = |at| match url.is_socks5 {
        false => Via::Udp(at),
        true => Via::Socks5 {
            proxy: at,
            user: url.user.clone(),
        },
    };
    Ok(found.first().copied().map(via))
}

/// Checks that the largest datagram fits behind the header of a SOCKS5 relay.
///
/// # Errors
/// A usage error.
pub(super) fn check_size(args: &Udp, plan: &Plan, is_v6: bool) -> Result<(), CliError> {
    let header = match (&args.via.via, is_v6) {
        (Some(url), false) if url.is_socks5 => V4_HEADER,
        (Some(url), true) if url.is_socks5 => V6_HEADER,
        _ => return Ok(()),
    };
    let most = MAX_PAYLOAD - HEADER - header;
    if plan.chunk <= most {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "--chunk {} does not fit a datagram with the header of {header} B of a SOCKS5 relay; choose at most {most}",
        plan.chunk
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_a_scheme_a_host_and_a_port() {
        for text in [
            "udp://127.0.0.1:9000",
            "udp://[::1]:9000",
            "udp://relay:1",
            "socks5://relay:1080",
        ] {
            assert_eq!(RelayUrl::parse(text).unwrap().name(), text);
        }
        let signed_in = RelayUrl::parse("socks5://ann:a@b:c@[::1]:1080").unwrap();
        let user = signed_in.user.as_ref().unwrap();
        assert_eq!(user.pair(), ("ann", "a@b:c"));
        // Records have no password.
        assert_eq!(signed_in.name(), "socks5://[::1]:1080");
        for text in [
            "",
            "127.0.0.1:9000",
            "udp://",
            "udp://:9000",
            "udp://relay",
            "udp://relay:0",
            "udp://relay:65536",
            "tcp://relay:1",
            "socks5://ann@relay:1",
            "socks5://:b@relay:1",
        ] {
            assert!(RelayUrl::parse(text).is_err(), "{text}");
        }
    }
}
