//! A setting with its server and the CPUs of its threads, ready to run.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    _local: Option<UdpServer>,
}

impl Ready {
    /// Starts a local server, unless the setting names a remote one.
    pub(super) fn new(ipv6: bool, planned: Planned, cancel: &Cancel) -> Result<Self, CliError> {
        let setup = planned.setup();
        if !setup.servers.is_empty() {
            return Ok(Self {
                setup,
                planned,
                _local: None,
            });
        }
        let loopback = match ipv6 {
            true => IpAddr::from(Ipv6Addr::LOCALHOST),
            false => IpAddr::from(Ipv4Addr::LOCALHOST),
        };
        let (plan, placements) = (&planned.plan, &planned.placements);
        let (setup, server) = local::start(plan, &setup, placements, loopback, cancel)
            .map_err(|(error, at)| CliError::Runtime(format!("cannot listen on {at}: {error}")))?;
        Ok(Self {
            setup,
            planned,
            _local: Some(server),
        })
    }

    pub(super) fn runtime(&self, error: impl Display) -> CliError {
        CliError::Runtime(self.planned.wrong(error))
    }
}
