//! `bench udp --fleet`: one rank of many that measure at one time. One rank collects the results and writes them, merged.

use std::ops::Range;
use std::time::Instant;

use clap::Args;

use super::gather::{Directions, Report, merged, nothing};
use super::lost;
use super::output::Output;
use super::plan::Planned;
use super::ready::Ready;
use crate::cli::args::Udp;
use crate::cli::endpoint::Family;
use crate::cli::error::CliError;
use crate::cli::fleet::gather::{End, Gather};
use crate::cli::fleet::keep::{self, Unmerged};
use crate::cli::fleet::rendezvous::{self, Meeting};
use crate::cli::fleet::{LaunchArgs, hash, roster};
use crate::cli::interrupt;
use crate::sys::affinity;
use crate::udp::client::{self, Cancel, Observer, Start};
use crate::udp::control::key::Key;
use crate::udp::fleet::launch::Launch;
use crate::udp::fleet::member::Member;
use crate::udp::result::Measured;
use crate::udp::wire;
use crate::udp::wire::fleet::FleetReply;

#[derive(Debug, Args)]
pub(in crate::cli) struct FleetArgs {
    /// Measure together with other processes: rank and size are those of mpirun, srun, PMI, a Kubernetes Indexed Job, or --rank and
    /// --size. Rank 0 receives and the others send, or all send to the server of --to. The runs start at one time; the lowest rank
    /// writes the merged result. --mb, --packets, --rate and --pps are those of all ranks together
    #[arg(long, conflicts_with_all = ["live", "round_trip", "echo", "packets_csv"], help_heading = "Fleet")]
    pub(super) fleet: bool,
    /// Address of rank 0 without --to [default: the first host of a Slurm job, or 127.0.0.1 if all ranks are on one host; port 5211]
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        requires = "fleet",
        conflicts_with = "to",
        help_heading = "Fleet"
    )]
    pub(super) rendezvous: Option<String>,
    #[command(flatten)]
    pub(super) launch: LaunchArgs,
}

/// This process in its fleet.
struct Place {
    launch: Launch,
    /// Whether rank 0 receives and does not send.
    has_receiver: bool,
}

impl Place {
    fn find(args: &Udp) -> Result<Self, CliError> {
        let place = Self {
            launch: args.fleet.launch.launch()?,
            has_receiver: args.to.is_none(),
        };
        let senders = place.senders();
        if senders == 0 {
            return Err(CliError::usage(
                "a fleet of one rank has no sender: start more ranks, or name a `bench serve` with --to",
            ));
        }
        // All ranks end here, so that none waits for those without a share.
        match args.packets {
            Some(packets) if packets < senders => Err(CliError::Usage(format!(
                "--packets {packets} cannot be shared by {senders} senders; choose at least {senders}, or fewer ranks"
            ))),
            _ => Ok(place),
        }
    }

    fn is_receiver(&self) -> bool {
        self.has_receiver && self.launch.rank == 0
    }

    /// Number of ranks that have a session.
    fn senders(&self) -> u64 {
        u64::from(self.launch.size) - u64::from(self.has_receiver)
    }

    /// The ranks that have a session.
    fn ranks(&self) -> Range<u32> {
        u32::from(self.has_receiver)..self.launch.size
    }

    /// Number of this rank among them.
    fn index(&self) -> u64 {
        u64::from(self.launch.rank).saturating_sub(u64::from(self.has_receiver))
    }
}

pub(super) fn run(args: &mut Udp) -> Result<(), CliError> {
    let place = Place::find(args)?;
    let cancel = Cancel::new().map_err(CliError::runtime)?;
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.cancel()).map_err(CliError::runtime)?;
    let key = args.key_file.as_deref().map(Key::read).transpose();
    let key = key.map_err(CliError::usage)?;
    let began = Instant::now();
    let meeting = Meeting {
        to: args.to.as_deref(),
        rendezvous: args.fleet.rendezvous.as_deref(),
        to_advice: ", or name a `bench serve` with --to",
        family: match (args.ipv4, args.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        },
        wait: args.fleet.launch.fleet_wait,
        attempt: args.peer_timeout,
    };
    let (option, server, port) = meeting.server(&place.launch)?;
    let _server = match place.is_receiver() {
        true => Some(rendezvous::serve(&server, &place.launch, key.clone())?),
        false => None,
    };
    let (dialled, address) = meeting.dial((option, &server, port), began, &cancel)?;
    if place.has_receiver {
        args.to = Some(address);
    }
    let mut all = Planned::all(args, false)?;
    let options = options(args, &all)?;
    let cores = affinity::allowed().map_or(1, |cpus| cpus.len());
    // Ranks that share CPUs would take them from each other.
    let may_spin = !place.launch.one_host || place.launch.size as usize <= cores;
    for planned in &mut all {
        planned.take_share(place.index(), place.senders(), may_spin)?;
        crate::udp::setup::can_send(&planned.plan).map_err(CliError::runtime)?;
    }
    let launch = &args.fleet.launch;
    let join = launch.join(&place.launch, !place.is_receiver(), options);
    let member = dialled
        .join(key.as_ref(), join)
        .map_err(CliError::runtime)?;
    let collector = roster(&member, launch.fleet_wait, &cancel)?;
    let is_collector = collector == place.launch.rank;
    let mut output = match is_collector {
        true => Some(Output::open(args, &all, false)?),
        false => None,
    };
    let ready = Ready::all(args.is_local_v6(), all, &cancel);
    let fleet = Fleet {
        args,
        place,
        member,
        cancel,
    };
    let outcome = ready.and_then(|ready| fleet.runs(&ready, output.as_mut()));
    match output {
        Some(output) => output.close(outcome),
        None => outcome,
    }
}

/// A number that stands for the options that all ranks share.
fn options(args: &Udp, all: &[Planned]) -> Result<String, CliError> {
    let plans = all
        .iter()
        .map(|one| wire::plan::Plan::from(one.plan.clone()));
    let plans: Vec<_> = plans.collect();
    let text = serde_json::to_string(&(plans, args.repeat, args.to.is_some()));
    text.map(|text| hash(&text)).map_err(CliError::runtime)
}

/// A rank with its connection.
struct Fleet<'a> {
    args: &'a Udp,
    place: Place,
    member: Member,
    cancel: Cancel,
}

impl Fleet<'_> {
    /// Runs all rounds. The collector writes each merged run to `output`.
    fn runs(&self, ready: &[Ready], mut output: Option<&mut Output>) -> Result<(), CliError> {
        if let Some(output) = &mut output {
            let settings = ready.iter().flat_map(|one| &one.planned.settings);
            output.comparing(settings.filter_map(Option::as_deref), self.args.repeat)?;
        }
        let sends = !self.place.is_receiver();
        if sends {
            self.warm_up(ready)?;
        }
        let (mut number, mut incomplete) = (0, None);
        for round in 0..self.args.repeat as usize {
            // As without a fleet, each round begins with the next setting.
            for turn in 0..ready.len() {
                let one = &ready[(round + turn) % ready.len()];
                if number > 0 && self.cancel.is_cancelled() {
                    return Ok(());
                }
                let (mut at_ns, mut phase_ns) = (None, 0);
                let own = match sends {
                    true => Some(self.measure(one, number, &mut at_ns, &mut phase_ns)?),
                    false => None,
                };
                let lost = match &mut output {
                    Some(output) => self.collect(one, number, (at_ns, phase_ns), own, output)?,
                    None => self.hand_over(one, number, phase_ns, own.unwrap_or_default())?,
                };
                incomplete = incomplete.or(lost);
                number += 1;
            }
        }
        match incomplete {
            Some(reason) => Err(CliError::Runtime(reason)),
            None => Ok(()),
        }
    }

    fn warm_up(&self, ready: &[Ready]) -> Result<(), CliError> {
        let Some(time) = super::warm_up_time(self.args, ready.len()) else {
            return Ok(());
        };
        for one in ready {
            let (plan, setup) = client::unrecorded(&one.planned.plan, &one.setup, time);
            client::run(&plan, &setup, &mut Silent, &self.cancel)
                .map_err(|error| one.runtime(error))?;
        }
        Ok(())
    }

    /// Measures with the others. `at_ns` becomes the common start, in ns of the server's clock, and `phase_ns` the time from there to
    /// the rank's first send.
    fn measure(
        &self,
        one: &Ready,
        number: u32,
        at_ns: &mut Option<u64>,
        phase_ns: &mut u64,
    ) -> Result<Vec<Measured>, CliError> {
        let phase = one
            .planned
            .phase_ns(self.place.index(), self.place.senders());
        let mut gate = Gate {
            member: &self.member,
            run: number,
            is_ready: false,
            at_ns,
            phase,
            phase_ns,
        };
        let measured = client::run(&one.planned.plan, &one.setup, &mut gate, &self.cancel);
        let mut measured = measured.map_err(|error| one.runtime(error))?;
        for (measured, setting) in measured.iter_mut().zip(&one.planned.settings) {
            measured.run.setting.clone_from(setting);
        }
        Ok(measured)
    }

    /// Sends the result to the collector. Returns why the run is incomplete, if it is.
    ///
    /// # Errors
    /// The collector has not saved the result: it is saved here.
    fn hand_over(
        &self,
        one: &Ready,
        number: u32,
        phase_ns: u64,
        own: Vec<Measured>,
    ) -> Result<Option<String>, CliError> {
        let report = Report::new(&own, phase_ns);
        match keep::hand_over(&self.member, number, &report, &self.cancel)? {
            None => Ok(own.iter().find_map(lost)),
            Some(reason) => Err(save(self.args, one, own, &reason)),
        }
    }

    /// Merges the results of all ranks and writes them. Returns why the run is incomplete, if it is.
    fn collect(
        &self,
        one: &Ready,
        number: u32,
        (at_ns, phase_ns): (Option<u64>, u64),
        own: Option<Vec<Measured>>,
        output: &mut Output,
    ) -> Result<Option<String>, CliError> {
        let mut gather = Gather::new(number, at_ns, Directions::default());
        if let Some(own) = &own {
            gather.add(self.place.launch.rank, &Report::new(own, phase_ns));
            // The wait for the other results finds a server that is lost.
            let _ = self.member.send_result(number, "");
        }
        let collected = gather.collect(&self.member, self.place.ranks(), &self.cancel);
        if let Some(reason) = collected.unmerged(self.member.kept().confirms) {
            return Err(match own {
                Some(own) => save(self.args, one, own, &reason),
                None => one.runtime(RECEIVER_LOST),
            });
        }
        let is_whole = collected.end == End::Whole;
        let nothing = nothing(&collected.missing);
        let merged = merged(collected, self.place.senders());
        if merged.is_empty() {
            return Err(one.runtime(nothing));
        }
        let incomplete = self.write(one, merged, output)?;
        if is_whole {
            keep::confirm(&self.member, number, &self.cancel);
        }
        Ok(incomplete)
    }

    /// Writes a run. Returns why it is incomplete, if it is.
    fn write(
        &self,
        one: &Ready,
        merged: Vec<Measured>,
        output: &mut Output,
    ) -> Result<Option<String>, CliError> {
        output.next(&one.planned.settings);
        let mut incomplete = None;
        for measured in merged {
            incomplete = incomplete.or(lost(&measured));
            output.add(measured)?;
        }
        Ok(incomplete)
    }
}

/// What rank 0, which only receives, reports if it is lost to its own server.
const RECEIVER_LOST: &str = "the ranks are not merged, as the server of the fleet lost this one; the others save their own results: put these together by `bench merge`";

/// Saves the result of this rank alone, as a record of its own: earlier runs may be merged. Returns the outcome of the command, which
/// is not complete.
fn save(args: &Udp, one: &Ready, own: Vec<Measured>, reason: &Unmerged) -> CliError {
    let incomplete = own.iter().find_map(lost);
    let written = Output::of_rank(args).and_then(|mut output| {
        output.next(&one.planned.settings);
        for measured in own {
            output.add(measured)?;
        }
        let folder = output.folder();
        output.close(Ok(())).map(|()| folder)
    });
    match written {
        Err(error) => error,
        Ok(folder) => one.runtime(reason.sentence(folder, incomplete)),
    }
}

/// Asks the fleet when a run starts.
struct Gate<'a> {
    member: &'a Member,
    run: u32,
    is_ready: bool,
    at_ns: &'a mut Option<u64>,
    /// From the common start to the first send, if the clocks are related.
    phase: u64,
    phase_ns: &'a mut u64,
}

impl Observer for Gate<'_> {
    fn start(&mut self, offset_ns: Option<i64>) -> Result<Start, String> {
        if !self.is_ready {
            self.is_ready = true;
            let ready = self.member.ready(self.run);
            ready.map_err(|error| error.to_string())?;
        }
        while let Some(reply) = self.member.try_reply().map_err(|error| error.to_string())? {
            if let FleetReply::Start { run, at_ns } = reply
                && run == self.run
            {
                *self.at_ns = Some(at_ns);
                return Ok(match offset_ns {
                    Some(offset) => {
                        *self.phase_ns = self.phase;
                        let at_ns = at_ns.saturating_add(self.phase);
                        Start::At(at_ns.wrapping_add_signed(offset.wrapping_neg()))
                    }
                    None => Start::Now,
                });
            }
        }
        Ok(Start::Wait)
    }
}

/// Observes a run that is not reported.
struct Silent;

impl Observer for Silent {}
