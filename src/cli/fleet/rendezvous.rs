//! Where the ranks of a fleet meet: the server of rank 0, or the one that `--to` names.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use crate::api::udp_server::UdpServer;
use crate::cli::args::DEFAULT_PORT;
use crate::cli::endpoint::{self, Family};
use crate::cli::error::CliError;
use crate::sys::rlimit;
use crate::udp::client::Cancel;
use crate::udp::control::key::Key;
use crate::udp::fleet::launch::Launch;
use crate::udp::fleet::member::Dialled;
use crate::udp::server::{Limits, Options};

/// The default port of rank 0. It differs from that of `bench serve`, which may run on the host.
const RENDEZVOUS_PORT: u16 = 5_211;

/// Between two attempts to reach rank 0, which may start later.
const RETRY: Duration = Duration::from_millis(100);

/// How a rank finds the server.
pub(in crate::cli) struct Meeting<'a> {
    /// `--to`: a `bench serve`.
    pub(in crate::cli) to: Option<&'a str>,
    /// `--rendezvous`: rank 0.
    pub(in crate::cli) rendezvous: Option<&'a str>,
    /// Where the command has `--to`, the advice to use it.
    pub(in crate::cli) to_advice: &'static str,
    pub(in crate::cli) family: Family,
    /// Longest wait for the server.
    pub(in crate::cli) wait: Duration,
    /// Longest attempt to connect.
    pub(in crate::cli) attempt: Duration,
}

impl Meeting<'_> {
    /// The option, the address and the default port of the server.
    pub(in crate::cli) fn server(
        &self,
        launch: &Launch,
    ) -> Result<(&'static str, String, u16), CliError> {
        let found = match (self.to, self.rendezvous) {
            (Some(to), _) => return Ok(("--to", to.to_owned(), DEFAULT_PORT)),
            (None, Some(rendezvous)) => rendezvous.to_owned(),
            (None, None) if launch.one_host => match self.family {
                Family::V6 => "::1".to_owned(),
                Family::V4 | Family::Any => "127.0.0.1".to_owned(),
            },
            (None, None) => launch.first_host.clone().ok_or_else(|| {
                CliError::Usage(format!(
                    "the ranks are on several hosts and the address of rank 0 is unknown: give it with --rendezvous HOST[:PORT]{}",
                    self.to_advice
                ))
            })?,
        };
        Ok(("--rendezvous", found, RENDEZVOUS_PORT))
    }

    /// Connects to the server, which may start later than this rank. Returns the address that answers too.
    pub(in crate::cli) fn dial(
        &self,
        (option, server, port): (&str, &str, u16),
        began: Instant,
        cancel: &Cancel,
    ) -> Result<(Dialled, String), CliError> {
        loop {
            let left = self.wait.saturating_sub(began.elapsed());
            let failed = match endpoint::resolve(option, server, port, self.family, "") {
                Ok(addresses) => match Dialled::connect(&addresses, left.min(self.attempt)) {
                    Ok(dialled) => {
                        let address = dialled.server().to_string();
                        return Ok((dialled, address));
                    }
                    Err(error) => CliError::Runtime(format!(
                        "{error}, for {} s; does {} run there? wait longer with --fleet-wait",
                        self.wait.as_secs_f64(),
                        if self.to.is_some() {
                            "`bench serve`"
                        } else {
                            "rank 0"
                        }
                    )),
                },
                Err(CliError::Usage(error)) => return Err(CliError::Usage(error)),
                Err(error) => error,
            };
            if cancel.is_cancelled() || began.elapsed() + RETRY > self.wait {
                return Err(failed);
            }
            thread::sleep(RETRY);
        }
    }
}

/// Starts the server of rank 0: on loopback if the other ranks reach it there, otherwise on all addresses.
pub(in crate::cli) fn serve(
    server: &str,
    launch: &Launch,
    key: Option<Key>,
) -> Result<UdpServer, CliError> {
    let _ = rlimit::raise_open_files();
    let size = launch.size as usize;
    let limits = Limits {
        connections: size.saturating_mul(2).saturating_add(64),
        sessions: size.saturating_add(8),
        streams: usize::MAX,
        ..Limits::none()
    };
    let limits = Limits {
        idle: Limits::default().idle,
        ..limits
    };
    let found = endpoint::resolve("--rendezvous", server, RENDEZVOUS_PORT, Family::Any, "");
    let port = match &found {
        Ok(addresses) => addresses
            .first()
            .map_or(RENDEZVOUS_PORT, |first| first.port()),
        Err(CliError::Usage(_)) => return found.map(|_| unreachable!("it is an error")),
        // The name of this host may be published later.
        Err(_) => server
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .unwrap_or(RENDEZVOUS_PORT),
    };
    let loopback = found.ok().and_then(|addresses| {
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        addresses.first().copied().filter(|_| is_local)
    });
    let options = Options {
        key,
        ..Options::default()
    };
    let start = |address| UdpServer::with(address, limits, options.clone());
    let started = match loopback {
        Some(address) => start(address),
        None => start((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| start((Ipv4Addr::UNSPECIFIED, port).into())),
    };
    started.map_err(|(error, address)| {
        CliError::Runtime(format!(
            "rank 0 cannot listen on {address}: {error}; is another fleet running? choose another port with --rendezvous HOST:PORT"
        ))
    })
}
