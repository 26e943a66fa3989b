//! A setting with its server and the CPUs of its threads, ready to run.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use super::plan::Planned;
use crate::api::local;
use crate::api::udp_server::UdpServer;
use crate::cli::error::CliError;
use crate::udp::client::{Cancel, Setup};

/// A setting, ready to run.
pub(super) struct Ready {
    pub(super) planned: Planned,
    pub(super) setup: Setup,
    /// The local server, kept until the last run.
    _local: Option<Rc<UdpServer>>,
}

impl Ready {
    /// Starts a local server for each setting that names no remote one, or one for all settings at a fixed port.
    pub(super) fn all(
        ipv6: bool,
        all: Vec<Planned>,
        cancel: &Cancel,
    ) -> Result<Vec<Self>, CliError> {
        // The longest list of CPUs begins with all others.
        let most = all.iter().max_by_key(|planned| planned.plan.streams);
        let Some((port, planned)) = most.and_then(|planned| Some((planned.port?, planned))) else {
            let ready = all.into_iter();
            return ready.map(|one| Self::new(ipv6, one, cancel)).collect();
        };
        let at = SocketAddr::new(loopback(ipv6), port);
        let placement = planned.placements.first().cloned().unwrap_or_default();
        let server = Rc::new(local::fixed(&placement, at).map_err(cannot_listen)?);
        let ready = all.into_iter().map(|planned| Self {
            setup: Setup {
                servers: vec![server.address()],
                ..planned.setup()
            },
            planned,
            _local: Some(server.clone()),
        });
        Ok(ready.collect())
    }

    fn new(ipv6: bool, planned: Planned, cancel: &Cancel) -> Result<Self, CliError> {
        let setup = planned.setup();
        if !setup.servers.is_empty() {
            return Ok(Self {
                setup,
                planned,
                _local: None,
            });
        }
        let (plan, placements) = (&planned.plan, &planned.placements);
        let (setup, server) = local::start(plan, &setup, placements, loopback(ipv6), cancel)
            .map_err(cannot_listen)?;
        Ok(Self {
            setup,
            planned,
            _local: Some(Rc::new(server)),
        })
    }

    pub(super) fn runtime(&self, error: impl Display) -> CliError {
        CliError::Runtime(self.planned.wrong(error))
    }
}

fn loopback(ipv6: bool) -> IpAddr {
    match ipv6 {
        true => Ipv6Addr::LOCALHOST.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    }
}

fn cannot_listen((error, at): (io::Error, SocketAddr)) -> CliError {
    CliError::Runtime(format!("cannot listen on {at}: {error}"))
}
