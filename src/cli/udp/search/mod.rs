//! `bench udp search`: runs the trials of a search, and then the latency curve.

pub(in crate::cli) mod args;
mod output;

use std::thread;
use std::time::{Duration, Instant};

use super::plan::Planned;
use super::ready::Ready;
use crate::cli::error::CliError;
use crate::cli::interrupt;
use crate::report::model::search::SearchTrial;
use crate::udp::client::{self, Cancel, Observer, RunError};
use crate::udp::plan::{Amount, Mode, Plan};
use crate::udp::result::{Measured, Run};
use crate::udp::search::{Goal, Next, Offered, Outcome, Range, Search as Core, outcome, rounded};
use crate::udp::setup;
use args::Search;
use output::Output;

/// Loads of the latency curve, as shares of the first goal's lower bound.
const CURVE: [f64; 3] = [0.5, 0.8, 0.95];

/// How often a pause checks for a signal.
const TICK: Duration = Duration::from_millis(10);

pub(super) fn run(args: &Search) -> Result<(), CliError> {
    let (goals, range) = (args.goals()?, args.range()?);
    let trial = args.of_trial()?;
    let planned = Planned::all(&trial, false)?;
    for planned in &planned {
        setup::can_send(&planned.plan).map_err(CliError::runtime)?;
    }
    let cancel = Cancel::new().map_err(CliError::runtime)?;
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.cancel()).map_err(CliError::runtime)?;
    let mut output = Output::open(args, &goals, range)?;
    let ready = match Ready::all(args.path.ipv6, planned, &cancel) {
        Ok(ready) => ready,
        Err(error) => return output.close(Err(error)),
    };
    let Some(ready) = ready.into_iter().next() else {
        return output.close(Ok(()));
    };
    output.requested(&ready.setup.requested);
    let mut runner = Runner {
        args,
        goals: &goals,
        ready: &ready,
        cancel: &cancel,
        output: &mut output,
        began: Instant::now(),
    };
    let ended = runner.search(range);
    let seconds = runner.began.elapsed().as_secs_f64();
    output.ended(ended.err(), seconds)
}

/// Why a search ended early.
enum Early {
    Interrupted,
    TimeLimit,
    /// A trial failed.
    Failed(String),
    /// The results cannot be written.
    Output(CliError),
}

struct Runner<'a> {
    args: &'a Search,
    goals: &'a [Goal],
    ready: &'a Ready,
    cancel: &'a Cancel,
    output: &'a mut Output,
    began: Instant,
}

impl Runner<'_> {
    fn search(&mut self, range: Range) -> Result<(), Early> {
        let mut core = self.first(range)?;
        while let Some(next) = core.next_trial() {
            let (row, found) = self.trial(next, "search")?;
            core.add(found.trial);
            self.record(&core, row)?;
        }
        let first = core.results().first().and_then(|result| result.lower);
        let Some(lower) = first else {
            return Ok(());
        };
        for share in CURVE {
            let next = Next {
                load: rounded(lower.load * share),
                duration_s: self.args.trial.as_secs_f64(),
            };
            let (row, _) = self.trial(next, "curve")?;
            let share = Some(share);
            self.record(&core, SearchTrial { share, ..row })?;
        }
        Ok(())
    }

    /// The search, which begins at the rate that the path forwards at the highest load: as fast as the sender can, or `--max`.
    fn first(&mut self, range: Range) -> Result<Core, Early> {
        let goals = self.goals;
        let initial = goals.first().map_or(0.0, |goal| goal.initial_trial_s);
        if self.args.max.is_some() {
            let next = Next {
                load: range.max,
                duration_s: initial,
            };
            let (row, found) = self.trial(next, "first")?;
            let offered = match found.trial.offered {
                Offered::Short { achieved } => achieved,
                _ => range.max,
            };
            let mut core = Core::new(goals, range, offered * (1.0 - found.trial.loss_ratio));
            core.add(found.trial);
            self.record(&core, row)?;
            return Ok(core);
        }
        let start_s = self.pause()?;
        let measured = self.measure(Mode::Blast, initial)?;
        let run = &measured.run;
        let forwarded = run.packets_per_s.filter(|pps| pps.is_finite());
        let core = Core::new(goals, range, forwarded.unwrap_or(range.min));
        let found = outcome(run, range.max, initial).map_err(|error| self.failed(error))?;
        let mut row = row(&found, run, "first", (start_s, initial));
        // It has no load that the sender could miss.
        row.load_pps = None;
        row.offered_pps = Some(found.sent as f64 / initial);
        self.record(&core, row)?;
        Ok(core)
    }

    /// Runs a trial after the pause.
    fn trial(&mut self, next: Next, phase: &str) -> Result<(SearchTrial, Outcome), Early> {
        let start_s = self.pause()?;
        self.output.trial(next.load, phase);
        let measured = self.measure(Mode::Paced(next.load), next.duration_s)?;
        let found = outcome(&measured.run, next.load, next.duration_s)
            .map_err(|error| self.failed(error))?;
        let row = row(&found, &measured.run, phase, (start_s, next.duration_s));
        Ok((row, found))
    }

    /// Waits before a trial. Returns the seconds since the start of the search.
    fn pause(&self) -> Result<f64, Early> {
        let until = Instant::now() + self.args.pause;
        loop {
            if self.cancel.is_cancelled() {
                return Err(Early::Interrupted);
            }
            let now = Instant::now();
            if now.duration_since(self.began) >= self.args.time_limit {
                return Err(Early::TimeLimit);
            }
            if now >= until {
                return Ok(now.duration_since(self.began).as_secs_f64());
            }
            thread::sleep(TICK.min(until - now));
        }
    }

    fn measure(&mut self, mode: Mode, duration_s: f64) -> Result<Measured, Early> {
        let plan = Plan {
            amount: Amount::Time(Duration::from_secs_f64(duration_s)),
            mode,
            ..self.ready.planned.plan.clone()
        };
        let runs = match client::run(&plan, &self.ready.setup, &mut Silent, self.cancel) {
            Err(RunError::Cancelled) => return Err(Early::Interrupted),
            outcome => outcome.map_err(|error| self.failed(error))?,
        };
        let measured = runs.into_iter().next();
        let measured = measured.ok_or_else(|| self.failed("the trial has no result"))?;
        match measured.run.ended.as_str() {
            "interrupted" => Err(Early::Interrupted),
            _ => {
                self.output.effective(&measured.run);
                Ok(measured)
            }
        }
    }

    fn failed(&self, error: impl ToString) -> Early {
        match self.cancel.is_cancelled() {
            true => Early::Interrupted,
            false => Early::Failed(error.to_string()),
        }
    }

    /// Saves a trial and the results after it.
    fn record(&mut self, core: &Core, mut row: SearchTrial) -> Result<(), Early> {
        if let Some(load) = row.load_pps {
            let classes = core.classify(load).into_iter();
            row.classes = classes.map(|class| class.name().to_owned()).collect();
        }
        let chunk = self.ready.planned.plan.chunk;
        let seconds = self.began.elapsed().as_secs_f64();
        let saved = self.output.add(row, &core.results(), chunk, seconds);
        saved.map_err(Early::Output)
    }
}

/// The row of a trial, without the classes of its load.
fn row(found: &Outcome, run: &Run, phase: &str, (start_s, duration_s): (f64, f64)) -> SearchTrial {
    let offered = match found.trial.offered {
        Offered::Full => "full",
        Offered::Late => "late",
        Offered::Short { .. } => "short",
    };
    SearchTrial {
        phase: phase.to_owned(),
        start_s,
        duration_s,
        load_pps: Some(found.trial.load),
        offered_pps: found.offered_pps,
        offered: offered.to_owned(),
        sent_packets: found.sent,
        lost_packets: found.lost,
        loss_ratio: found.trial.loss_ratio,
        lost_receiver_socket: run.lost.receiver_socket,
        kb_per_s: run.kb_per_s,
        latency_ns: run.latency_ns,
        latency_from_intended_ns: run.latency_from_intended_ns,
        note: found.note.clone(),
        delivered_pps: found.delivered_pps,
        ..SearchTrial::default()
    }
}

/// Ignores all events.
struct Silent;

impl Observer for Silent {}
