//! Both ends of a measurement in this process: the server, and the CPUs of all threads.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::udp_server::UdpServer;
use crate::udp::client::{self, Cancel, Observer, Setup};
use crate::udp::placement::{self, Placement};
use crate::udp::plan::Plan;
use crate::udp::result::CpuTrial;
use crate::udp::server::{Limits, Options};

/// Starts a server without limits for this process alone, at a free port of the address `loopback`. If there are several placements
/// of the threads, the one with the most datagrams a second in short trials is chosen, or the first one if a trial fails: the measured
/// run then reports the failure. The setup is `setup` for the server.
///
/// # Errors
/// Those of [`UdpServer::with`].
pub(crate) fn start(
    plan: &Plan,
    setup: &Setup,
    placements: &[Placement],
    loopback: IpAddr,
    cancel: &Cancel,
) -> Result<(Setup, UdpServer), (io::Error, SocketAddr)> {
    let rates = placement::rates(placements, |placement| {
        let (setup, _server) = end(setup, placement, loopback).ok()?;
        let (trial, setup) = client::unrecorded(plan, &setup, placement::TRIAL);
        let runs = client::run(&trial, &setup, &mut Silent, cancel).ok()?;
        let rates = runs
            .iter()
            .filter_map(|measured| measured.run.packets_per_s);
        Some(rates.sum())
    })
    .unwrap_or_default();
    let chosen = placements.get(placement::fastest(&rates));
    let (setup, server) = end(setup, chosen.unwrap_or(&Placement::default()), loopback)?;
    let setup = Setup {
        cpu_trials: record(plan, placements, &rates),
        ..setup
    };
    Ok((setup, server))
}

/// Starts a server at this address for all settings of a comparison, whose threads are those of `placement`.
///
/// # Errors
/// Those of [`UdpServer::with`].
pub(crate) fn fixed(
    placement: &Placement,
    address: SocketAddr,
) -> Result<UdpServer, (io::Error, SocketAddr)> {
    let options = Options {
        cpus: placement.server.clone(),
        ..Options::default()
    };
    UdpServer::with(address, Limits::none(), options)
}

/// A server with this placement, and the setup of its client.
fn end(
    setup: &Setup,
    placement: &Placement,
    loopback: IpAddr,
) -> Result<(Setup, UdpServer), (io::Error, SocketAddr)> {
    let server = fixed(placement, SocketAddr::new(loopback, 0))?;
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

/// Does nothing with what it observes.
pub(super) struct Silent;

impl Observer for Silent {}
