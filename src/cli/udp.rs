//! `bench udp`: the plan, the runs and everything that comes out of them.

mod combination;
mod output;
mod plan;

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::args::Udp;
use super::failure::Failure;
use super::interrupt;
use crate::report::model::{Meta, UdpRecord};
use crate::report::record::Measured;
use crate::sys::clock;
use crate::udp::client::{self, Cancel, RunError, Setup};
use crate::udp::server::{Limits, Options, Server, Stopper};
use crate::udp::setup;
use output::Output;
use plan::Planned;

/// A warm-up of each setting compared, where nothing else is said: enough for caches and clock rates, and for the
/// kernel's first allocations.
const WARM_UP: Duration = Duration::from_millis(200);

pub(super) fn run(args: &Udp) -> Result<(), Failure> {
    let all = Planned::all(args)?;
    for planned in &all {
        setup::can_send(&planned.plan).map_err(Failure::undone)?;
    }
    let cancel = Cancel::new().map_err(Failure::undone)?;
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.cancel()).map_err(Failure::undone)?;
    let mut output = Output::open(args, &all)?;
    let ready: Vec<Ready> = all
        .into_iter()
        .map(|planned| Ready::new(args.ipv6, planned))
        .collect::<Result<_, _>>()?;
    let outcome = runs(args, &ready, &mut output, &cancel);
    drop(ready);
    output.close(outcome)
}

/// Does the warm-ups and every round, each run given out as soon as it is over.
fn runs(args: &Udp, ready: &[Ready], output: &mut Output, cancel: &Cancel) -> Result<(), Failure> {
    let settings = ready.iter().flat_map(|one| &one.planned.settings);
    let settings = settings.filter_map(Option::as_deref);
    output.comparing(settings, args.repeat)?;
    warm_up(args, ready, output, cancel)?;
    for round in 0..args.repeat as usize {
        // Each round begins with the next setting, so that none has a place or a predecessor that
        // always helps it: drift within a round then falls on all alike.
        for turn in 0..ready.len() {
            let one = &ready[(round + turn) % ready.len()];
            if output.has_runs() && cancel.is_cancelled() {
                return Ok(());
            }
            let directions = match client::run(&one.planned.plan, &one.setup, output, cancel) {
                Err(RunError::Cancelled) if output.has_runs() => return Ok(()),
                outcome => outcome.map_err(|error| one.undone(error))?,
            };
            let mut reason = None;
            for (mut measured, setting) in directions.into_iter().zip(&one.planned.settings) {
                measured.run.setting = setting.clone();
                reason = reason.or(lost(&measured));
                output.run(measured)?;
            }
            if let Some(reason) = reason {
                return Err(one.undone(reason));
            }
        }
    }
    Ok(())
}

fn warm_up(
    args: &Udp,
    ready: &[Ready],
    output: &mut Output,
    cancel: &Cancel,
) -> Result<(), Failure> {
    let by_itself = match ready.len() {
        1 => Duration::ZERO,
        _ => WARM_UP,
    };
    let time = args.warmup.unwrap_or(by_itself);
    if time.is_zero() {
        return Ok(());
    }
    output.warming_up();
    for one in ready {
        let plan = client::warm_up(&one.planned.plan, time);
        client::run(&plan, &one.setup, &mut output.silent(), cancel)
            .map_err(|error| one.undone(error))?;
    }
    Ok(())
}

/// A setting that can be run at any time: its server is there.
struct Ready {
    planned: Planned,
    setup: Setup,
    /// Kept for as long as there are runs.
    _local: Option<Local>,
}

impl Ready {
    fn new(ipv6: bool, planned: Planned) -> Result<Self, Failure> {
        let (servers, local) = match &planned.servers {
            Some(servers) => (servers.clone(), None),
            None => {
                let local = Local::start(ipv6, &planned)?;
                (vec![local.address], Some(local))
            }
        };
        Ok(Self {
            setup: planned.setup(servers),
            planned,
            _local: local,
        })
    }

    fn undone(&self, error: impl Display) -> Failure {
        Failure::Undone(self.planned.wrong(error))
    }
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
pub(super) fn record(started: u64) -> UdpRecord {
    UdpRecord {
        meta: Meta::here("udp", started, super::command_line()),
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
        let options = Options {
            cpus: planned.server_cpus.clone(),
            ..Options::default()
        };
        let server = Server::bind(address, Limits::none(), options)
            .map_err(|(error, at)| Failure::Undone(format!("cannot listen on {at}: {error}")))?;
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
