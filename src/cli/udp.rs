//! `bench udp`: plans the settings, runs them and writes the results.

mod during;
pub(super) mod fleet;
mod gather;
mod matrix;
mod output;
mod plan;
mod ready;
pub(super) mod round_trip;
pub(super) mod search;
pub(super) mod stamps;
pub(super) mod traffic;
pub(super) mod via;

use std::time::Duration;

use super::args::Udp;
use super::error::CliError;
use super::sink::is_stdout;
use super::{interrupt, live};
use crate::report::model::{Curves, Meta, UdpRecord};
use crate::sys::clock;
use crate::udp::client::{self, Cancel, RunError};
use crate::udp::result::{Measured, Run};
use crate::udp::setup;
use output::Output;
use plan::Planned;
use ready::Ready;
use round_trip::RunningLoad;
use search::args::UdpCommand;

/// Default warm-up of each setting of a comparison: enough for caches, clock rates and the kernel's first allocations.
const WARM_UP: Duration = Duration::from_millis(200);

pub(super) fn run(mut args: Box<Udp>) -> Result<(), CliError> {
    if args.fleet.fleet {
        return fleet::run(&mut args);
    }
    let args = &*args;
    if args.key_file.is_some() && args.to.is_none() {
        return Err(CliError::usage(
            "--key-file needs a server: add --to, or --fleet for that of rank 0",
        ));
    }
    if let Some(UdpCommand::Search(args)) = &args.command {
        return search::run(args);
    }
    let iperf3_json = args.iperf3_json.as_deref().is_some_and(is_stdout);
    let stdout = args.exports.stdout_option();
    let stdout = stdout.or(iperf3_json.then_some("--iperf3-json"));
    let live = live::is_possible(args.live, stdout)?;
    let all = Planned::all(args, live)?;
    for planned in &all {
        setup::can_send(&planned.plan).map_err(CliError::runtime)?;
    }
    let cancel = Cancel::new().map_err(CliError::runtime)?;
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.cancel()).map_err(CliError::runtime)?;
    let mut output = Output::open(args, &all, live)?;
    let ready = Ready::all(args.is_local_v6(), all, &cancel);
    let outcome = ready.and_then(|ready| runs(args, &ready, &mut output, &cancel));
    output.close(outcome)
}

/// Runs warm-ups and rounds. Each run is written when it ends.
fn runs(args: &Udp, ready: &[Ready], output: &mut Output, cancel: &Cancel) -> Result<(), CliError> {
    let settings = ready.iter().flat_map(|one| &one.planned.settings);
    let settings = settings.filter_map(Option::as_deref);
    output.comparing(settings, args.repeat)?;
    warm_up(args, ready, output, cancel)?;
    for round in 0..args.repeat as usize {
        // Each round begins with the next setting, so that no setting always has the same position and predecessor: drift within
        // a round affects all alike.
        for turn in 0..ready.len() {
            let number = (round + turn) % ready.len();
            let one = &ready[number];
            if output.has_runs() && cancel.is_cancelled() {
                return Ok(());
            }
            output.next(&one.planned.settings);
            output.starting(&live::Start {
                plan: &one.planned.plan,
                setting: one.planned.name(),
                server: args.to.as_deref(),
                of_settings: (number, ready.len()),
                of_rounds: (round, args.repeat as usize),
            });
            let load = match &one.planned.load {
                Some(plan) => Some(RunningLoad::start(plan.clone(), &one.setup)?),
                None => None,
            };
            let directions = match client::run(&one.planned.plan, &one.setup, output, cancel) {
                Err(RunError::Cancelled) if output.has_runs() => return Ok(()),
                outcome => outcome.map_err(|error| one.runtime(error))?,
            };
            let load = load.map(RunningLoad::end);
            let mut reason = None;
            for (mut measured, setting) in directions.into_iter().zip(&one.planned.settings) {
                measured.run.setting = setting.clone();
                if let Some(load) = &load {
                    add_load(&mut measured.run, load);
                }
                reason = reason.or(lost(&measured));
                output.run(measured)?;
            }
            if let Some(reason) = reason {
                return Err(one.runtime(reason));
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
) -> Result<(), CliError> {
    let Some(time) = warm_up_time(args, ready.len()) else {
        return Ok(());
    };
    output.warming_up();
    for one in ready {
        let (plan, setup) = client::unrecorded(&one.planned.plan, &one.setup, time);
        client::run(&plan, &setup, &mut output.silent(), cancel)
            .map_err(|error| one.runtime(error))?;
    }
    Ok(())
}

/// The warm-up of each of so many settings; `None` for none.
fn warm_up_time(args: &Udp, settings: usize) -> Option<Duration> {
    let by_itself = match settings {
        1 => Duration::ZERO,
        _ => WARM_UP,
    };
    Some(args.warmup.unwrap_or(by_itself)).filter(|time| !time.is_zero())
}

/// Adds the outcome of the stream beside round trips.
fn add_load(run: &mut Run, load: &Result<Option<f64>, String>) {
    match load {
        Ok(rate) => {
            if let Some(round_trip) = &mut run.round_trip {
                round_trip.load_kb_per_s = *rate;
            }
        }
        Err(reason) => run.warnings.push(format!(
            "The load ended before the round trips, so that the path was idle for a part of them: {reason}."
        )),
    }
}

/// Why a measured run is an error. A run that the user interrupted is not.
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

/// A record without runs.
pub(super) fn record(started: u64) -> UdpRecord {
    UdpRecord {
        meta: Meta::here("udp", started, super::command_line()),
        runs: Vec::new(),
        comparison: Vec::new(),
        curves: Curves::default(),
    }
}

fn now() -> u64 {
    clock::realtime_ns()
}
