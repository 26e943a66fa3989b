//! Both ends of a measurement in this process: the server, and the CPUs of all threads.

use std::io;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::udp::{Silent, UdpServer};
use crate::udp::client::{self, Cancel, RunError, Setup};
use crate::udp::placement::{self, Placement};
use crate::udp::plan::Plan;
use crate::udp::result::CpuTrial;
use crate::udp::server::{Limits, Options};

/// Why a local server is not ready.
#[derive(Debug, Error)]
pub(crate) enum LocalError {
    #[error("cannot listen on {1}: {0}")]
    Listen(#[source] io::Error, SocketAddr),
    #[error(transparent)]
    Trial(#[from] RunError),
}

/// Starts a server without limits for this process alone, at a free port of the address `loopback`. If there are several placements
/// of the threads, the one with the most datagrams a second in short trials is chosen. The setup is `setup` for the server.
///
/// # Errors
/// [`LocalError`].
pub(crate) fn start(
    plan: &Plan,
    setup: &Setup,
    placements: &[Placement],
    loopback: IpAddr,
    cancel: &Cancel,
) -> Result<(Setup, UdpServer), LocalError> {
    let rates = placement::rates(placements, |placement| {
        let (setup, _server) = end(setup, placement, loopback)?;
        let (trial, setup) = client::unrecorded(plan, &setup, placement::TRIAL);
        let runs = client::run(&trial, &setup, &mut Silent, cancel)?;
        let rates = runs
            .iter()
            .filter_map(|measured| measured.run.packets_per_s);
        Ok::<_, LocalError>(rates.sum())
    })?;
    let chosen = placements.get(placement::fastest(&rates));
    let (setup, server) = end(setup, chosen.unwrap_or(&Placement::default()), loopback)?;
    let setup = Setup {
        cpu_trials: record(plan, placements, &rates),
        ..setup
    };
    Ok((setup, server))
}

/// A server with this placement, and the setup of its client.
fn end(
    setup: &Setup,
    placement: &Placement,
    loopback: IpAddr,
) -> Result<(Setup, UdpServer), LocalError> {
    let options = Options {
        cpus: placement.server.clone(),
        ..Options::default()
    };
    let address = SocketAddr::new(loopback, 0);
    let server = UdpServer::with(address, Limits::none(), options)
        .map_err(|(error, at)| LocalError::Listen(error, at))?;
    let setup = Setup {
        servers: vec![server.address()],
        cpus: placement.client.clone(),
        ..setup.clone()
    };
    Ok((setup, server))
}

fn record(plan: &Plan, placements: &[Placement], rates: &[f64]) -> Option<Vec<CpuTrial>> {
    let trials = placements.iter().zip(rates).map(|(placement, rate)| {
        let (sender_cpus, receiver_cpus) = placement.by_role(plan.direction);
        CpuTrial {
            sender_cpus,
            receiver_cpus,
            packets_per_s: *rate,
        }
    });
    (!rates.is_empty()).then(|| trials.collect())
}
