//! `bench proxy load --fleet`: one load generator of many that measure at one time. Rank 0 collects the results and writes them, merged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;

use super::args::Load;
use super::gather::Report;
use super::output::Output;
use super::record;
use super::run::{self, Started};
use crate::cli::endpoint::Family;
use crate::cli::error::CliError;
use crate::cli::fleet::gather::{End, Gather};
use crate::cli::fleet::keep::{self, Unmerged};
use crate::cli::fleet::rendezvous::{self, Meeting};
use crate::cli::fleet::{LaunchArgs, TICK, hash, roster};
use crate::cli::interrupt;
use crate::cli::saving::Saving;
use crate::load::measurement::Start;
use crate::load::merge::Merge;
use crate::load::plan::{Path, Plan, Scenario};
use crate::load::result::Measured;
use crate::load::session::{self, Observer};
use crate::sys::{clock, machine};
use crate::udp::client::Cancel;
use crate::udp::fleet::clock::ServerClock;
use crate::udp::fleet::launch::Launch;
use crate::udp::fleet::member::Member;
use crate::udp::fleet::share;
use crate::udp::wire::control::PEER_TIMEOUT;
use crate::udp::wire::fleet::FleetReply;

#[derive(Debug, Args)]
pub(super) struct LoadFleetArgs {
    /// Load together with other processes: rank and size are those of mpirun, srun, PMI, a Kubernetes Indexed Job, or --rank and
    /// --size. Each measurement starts at one time; rank 0, which loads too, writes the merged result. --rate, --connections and --mb
    /// are those of all ranks together, the other options those of each rank
    #[arg(long, conflicts_with = "live", help_heading = "Fleet")]
    pub(super) fleet: bool,
    /// Address of rank 0 [default: the first host of a Slurm job, or 127.0.0.1 if all ranks are on one host; port 5211]
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        requires = "fleet",
        help_heading = "Fleet"
    )]
    rendezvous: Option<String>,
    #[command(flatten)]
    launch: LaunchArgs,
}

pub(super) fn run(args: &Load, fleet: &LoadFleetArgs) -> Result<(), CliError> {
    let launch = fleet.launch.launch()?;
    let prepared = run::prepare(args, args.via.is_some())?;
    let mut plan = run::plan(args, &prepared, &Started::default())?;
    let options = options(args, &plan);
    let runs = run::runs(&plan)?;
    take_share(&mut plan, &launch)?;
    let cancel = Cancel::new().map_err(CliError::runtime)?;
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let on_signal = (cancel.clone(), is_cancelled.clone());
    interrupt::on_signal_or_hangup(move || {
        on_signal.1.store(true, Ordering::Relaxed);
        on_signal.0.cancel();
    })
    .map_err(CliError::runtime)?;
    let began = Instant::now();
    let meeting = Meeting {
        to: None,
        rendezvous: fleet.rendezvous.as_deref(),
        to_advice: "",
        family: Family::Any,
        wait: fleet.launch.fleet_wait,
        attempt: PEER_TIMEOUT,
    };
    let (option, server, port) = meeting.server(&launch)?;
    let _server = match launch.rank {
        0 => Some(rendezvous::serve(&server, &launch, None)?),
        _ => None,
    };
    let (dialled, _) = meeting.dial((option, &server, port), began, &cancel)?;
    let join = fleet.launch.join(&launch, true, options);
    let member = dialled.join(None, join).map_err(CliError::runtime)?;
    let collector = roster(&member, fleet.launch.fleet_wait, &cancel)?;
    let mut output = match collector == launch.rank {
        true => Some(Output::open(args, false)?),
        false => None,
    };
    if let Some(output) = &mut output {
        output.expect(runs, prepared.left_out)?;
    }
    let mut rank = Rank {
        saving: &args.saving,
        started: clock::realtime_ns(),
        launch,
        member,
        cancel,
        output,
        number: 0,
        clock: ServerClock::default(),
        at_ns: None,
        incomplete: None,
    };
    let outcome = session::run(&plan, &is_cancelled, &mut rank);
    match (rank.output, rank.incomplete) {
        (Some(output), _) => output.close(outcome, is_cancelled.load(Ordering::Relaxed)),
        (None, Some(reason)) => outcome.and(Err(CliError::Runtime(reason))),
        (None, None) => outcome,
    }
}

/// Stands for the options that all ranks share. Addresses are those of the command line, of which a name may resolve to others on
/// other hosts. Processes differ.
fn options(args: &Load, plan: &Plan) -> String {
    let proxies = plan.proxies.iter();
    let proxies: Vec<_> = proxies
        .map(|of| (&of.setting, of.protocol.name()))
        .collect();
    let text = format!(
        "load {:?} {:?} {:?} {proxies:?} {} {:?} {} {} {} {} {:?} {:?} {:?} {:?} {}",
        args.via,
        args.origin,
        plan.scenarios,
        plan.direct,
        plan.blocked,
        plan.user.is_some(),
        plan.connections,
        plan.streams,
        plan.message,
        plan.rate,
        plan.bytes,
        plan.extent,
        plan.timeout,
        plan.rounds,
    );
    hash(&text)
}

/// Reduces what all ranks share to the part of this one. The parts add up to the whole.
fn take_share(plan: &mut Plan, launch: &Launch) -> Result<(), CliError> {
    let (rank, size) = (u64::from(launch.rank), u64::from(launch.size));
    let enough = |option: &str, whole: u64| match whole < size {
        // All ranks end here, so that none waits for those without a share.
        true => Err(CliError::Usage(format!(
            "{option} cannot be shared by {size} ranks; choose more, or fewer ranks"
        ))),
        false => Ok(()),
    };
    let is_asked = |of: fn(&Scenario) -> bool| plan.scenarios.iter().any(of);
    let has_requests = is_asked(|of| *of != Scenario::Bulk);
    let has_bulk = is_asked(|of| *of == Scenario::Bulk);
    let connections = plan.connections as u64;
    if has_requests {
        enough(&format!("--connections {connections}"), connections)?;
    }
    if let Some(rate) = plan.rate {
        let seconds = plan.extent.duration.as_secs_f64();
        let requests = (rate * seconds) as u64;
        enough(&format!("--rate {rate} for {seconds} s"), requests)?;
    }
    if let Some(bytes) = plan.bytes.filter(|_| has_bulk) {
        enough(&format!("--mb {}", bytes as f64 / 1e6), bytes)?;
    }
    plan.connections = share::of(connections, rank, size) as usize;
    plan.bytes = plan.bytes.map(|bytes| share::of(bytes, rank, size));
    plan.rate = plan.rate.map(|whole| share::of_rate(whole, rank, size));
    // Together the ranks start requests at even times.
    plan.phase = rank as f64 / size as f64;
    Ok(())
}

/// This process in its fleet.
struct Rank<'a> {
    /// Where the rank saves its own run if the fleet is lost.
    saving: &'a Saving,
    /// When the command started, in ns since the epoch.
    started: u64,
    launch: Launch,
    member: Member,
    cancel: Cancel,
    /// Of the collector.
    output: Option<Output>,
    /// Number of the measurement.
    number: u32,
    /// The server's clock before the measurement.
    clock: ServerClock,
    /// The common start, in ns of this clock.
    at_ns: Option<u64>,
    /// Why the first incomplete measurement is.
    incomplete: Option<String>,
}

impl Rank<'_> {
    /// The common start, once all ranks are ready; `None` after a signal.
    fn await_start(&self) -> Result<Option<u64>, CliError> {
        while !self.cancel.is_cancelled() {
            let reply = self.member.reply_within(TICK).map_err(CliError::runtime)?;
            match reply {
                Some(FleetReply::Start { run, at_ns }) if run == self.number => {
                    return Ok(Some(at_ns));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Saves the run of this rank alone, as a record of its own: earlier runs may be merged. Returns the outcome of the command.
    fn save(&self, measured: &Measured, reason: &Unmerged) -> CliError {
        let folder = record::save(self.saving, self.started, measured);
        match folder {
            Err(error) => error,
            Ok(folder) => {
                let folder = folder.map(|folder| folder.display().to_string());
                CliError::Runtime(reason.sentence(folder, None))
            }
        }
    }
}

impl Observer for Rank<'_> {
    type Error = CliError;

    fn started(&mut self, scenario: Scenario, path: Path<'_>, round: usize) {
        if let Some(output) = &mut self.output {
            output.started(scenario, path, round);
        }
    }

    /// The clock is estimated before each measurement, so that its drift does not add up.
    fn start(&mut self) -> Result<Start, CliError> {
        self.clock = self.member.clock().map_err(CliError::runtime)?;
        self.member.ready(self.number).map_err(CliError::runtime)?;
        self.at_ns = self.await_start()?;
        let start = self.at_ns.map(|ns| Start::At(self.clock.here(ns)));
        Ok(start.unwrap_or(Start::Now))
    }

    /// The ranks measure the same paths, so that their measurements have the same numbers.
    fn keeps_failed_paths(&self) -> bool {
        true
    }

    fn finished(&mut self, measured: Measured) -> Result<(), CliError> {
        let number = self.number;
        self.number = self.number.saturating_add(1);
        let report = Report::new(machine::hostname(), &measured, self.clock);
        let Some(output) = &mut self.output else {
            let run = &measured.run;
            if !run.complete && !run.interrupted {
                let reason = run.reason.as_deref().unwrap_or("it ended early");
                let reason = format!("the run is incomplete: {reason}");
                self.incomplete.get_or_insert(reason);
            }
            let unmerged = keep::hand_over(&self.member, number, &report, &self.cancel)?;
            return unmerged.map_or(Ok(()), |reason| Err(self.save(&measured, &reason)));
        };
        let mut gather = Gather::new(number, self.at_ns, Merge::new(self.at_ns));
        gather.add(self.launch.rank, &report);
        // The wait for the other results finds a server that is lost.
        let _ = self.member.send_result(number, "");
        let size = self.launch.size;
        let collected = gather.collect(&self.member, 0..size, &self.cancel);
        if let Some(reason) = collected.unmerged(self.member.kept().confirms) {
            return Err(self.save(&measured, &reason));
        }
        let is_whole = collected.end == End::Whole;
        let merged = collected.sum.finish(u64::from(size), collected.missing);
        output.finished(merged)?;
        if is_whole {
            keep::confirm(&self.member, number, &self.cancel);
        }
        Ok(())
    }

    fn failed(&mut self, error: io::Error) -> CliError {
        CliError::Runtime(format!("the load generator cannot go on: {error}"))
    }
}
