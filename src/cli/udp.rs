//! `bench udp`: the plan, the runs and everything that comes out of them.

mod output;
mod plan;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::args::Udp;
use super::failure::Failure;
use super::interrupt;
use crate::report::record::{Host, Record, SCHEMA};
use crate::report::{dates, record::Measured};
use crate::sys::{clock, host};
use crate::udp::server::{Limits, Server, Stopper};
use crate::udp::session::{self, Cancel, RunError, Setup};
use output::Output;
use plan::Planned;

pub(super) fn run(args: &Udp) -> Result<(), Failure> {
    let planned = Planned::new(args)?;
    let cancel = Cancel::new().map_err(Failure::undone)?;
    let on_signal = cancel.clone();
    interrupt::on_signal(move || on_signal.cancel()).map_err(Failure::undone)?;
    let mut output = Output::open(args)?;
    let (server, local) = match planned.server {
        Some(server) => (server, None),
        None => {
            let local = Local::start(args.ipv6, &planned)?;
            (local.address, Some(local))
        }
    };
    let setup = planned.setup(server);
    let outcome = runs(args, &planned, &setup, &mut output, &cancel);
    drop(local);
    output.close(outcome)
}

/// Does the warm-up and every repetition, each given out as soon as it is over.
fn runs(
    args: &Udp,
    planned: &Planned,
    setup: &Setup,
    output: &mut Output,
    cancel: &Cancel,
) -> Result<(), Failure> {
    if let Some(time) = args.warmup.filter(|time| !time.is_zero()) {
        output.warming_up();
        session::run(
            &session::warm_up(&planned.plan, time),
            setup,
            &mut output.silent(),
            cancel,
        )
        .map_err(failure)?;
    }
    for number in 0..args.repeat {
        if number > 0 && cancel.is_cancelled() {
            break;
        }
        let measured = session::run(&planned.plan, setup, output, cancel).map_err(failure)?;
        let lost = lost(&measured);
        output.run(measured)?;
        if let Some(reason) = lost {
            return Err(Failure::Undone(reason));
        }
    }
    Ok(())
}

/// What a run that cannot be done comes to.
fn failure(error: RunError) -> Failure {
    Failure::undone(error)
}

/// Why the run counts as not done, although something was measured. One that the user ended is done.
fn lost(measured: &Measured) -> Option<String> {
    let run = &measured.run;
    if run.complete || run.ended == "interrupted" {
        return None;
    }
    Some(format!(
        "the run is incomplete: {}",
        run.reason.as_deref().unwrap_or("it ended early")
    ))
}

/// What every record begins with.
pub(super) fn record(started: u64) -> Record {
    Record {
        schema: SCHEMA,
        kind: "udp".to_owned(),
        wirebench: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: dates::rfc3339(started),
        command: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        host: Host {
            kernel: host::kernel(),
            cpu: host::cpu_model(),
            cores: host::cores(),
            governor: host::governor(),
            rmem_max: host::rmem_max(),
            wmem_max: host::wmem_max(),
        },
        runs: Vec::new(),
        comparison: Vec::new(),
    }
}

/// The receiver in this process, on loopback: a server like any other, with no limits but our own.
struct Local {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Local {
    fn start(ipv6: bool, planned: &Planned) -> Result<Self, Failure> {
        let address = if ipv6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        };
        let limits = Limits {
            duration: Duration::MAX,
            idle: Duration::MAX,
            packet_rows: u64::MAX,
            receive_buffer: usize::MAX,
            ..Limits::default()
        };
        let server = Server::bind(address, limits, planned.receiver_cpus.clone())
            .map_err(|error| Failure::Undone(format!("cannot listen on {address}: {error}")))?;
        let (address, stopper) = (server.local(), server.stopper());
        let thread = thread::Builder::new()
            .name("serve".to_owned())
            .spawn(move || {
                // If its event loop fails, the session at the other end notices and says so.
                let _ = server.run(|_| ());
            })
            .map_err(Failure::undone)?;
        Ok(Self {
            address,
            stopper,
            thread: Some(thread),
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// Kept with the command, so that the clock is read in one place.
fn now() -> u64 {
    clock::realtime_ns()
}
