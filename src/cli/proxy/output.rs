//! Output of `bench proxy`: the table on stdout, the progress line and the files.
//!
//! Every file is opened before the first measurement, and every run is saved when it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::args::Load;
use super::with_advice;
use crate::cli::command_line;
use crate::cli::during::{Hlog, JsonStream};
use crate::cli::error::CliError;
use crate::cli::exports::Exports;
use crate::cli::live::{self, Live};
use crate::cli::progress::Progress;
use crate::cli::text_out::TextOut;
use crate::load;
use crate::load::advice::advice;
use crate::load::plan::{Path, Scenario};
use crate::load::result::{Measured, Run};
use crate::load::session::Observer;
use crate::report::compare::proxy::{Latencies, overhead, totals, within_command};
use crate::report::export::columns::LedgerRow;
use crate::report::export::hgrm::Histograms;
use crate::report::export::json_stream::Line;
use crate::report::export::text::Text;
use crate::report::export::{Document, Exporter};
use crate::report::model::{Curves, Distributed, Meta, ProxyRecord};
use crate::report::store::{Ledger, RunFolder};
use crate::sys::clock;

/// Destinations of runs.
pub(super) struct Output {
    record: ProxyRecord,
    latencies: Latencies,
    /// For the formats that draw them.
    histograms: Histograms,
    store: Option<(Ledger, RunFolder)>,
    saved: bool,
    exports: Option<Exports>,
    hlog: Option<Hlog>,
    stream: Option<JsonStream>,
    progress: Progress,
    live: Option<LiveLoad>,
    /// Whether stdout shows text.
    shown: bool,
    text: TextOut,
    /// Number of planned runs.
    expected: usize,
}

/// The live view, and what it shows of the load generator.
struct LiveLoad {
    live: Live,
    progress: Arc<load::progress::Progress>,
    /// Duration of a measurement.
    duration: Duration,
}

impl Output {
    /// Opens all destinations, and shows the live view if `live`.
    pub(super) fn open(args: &Load, live: bool) -> Result<Self, CliError> {
        let started = clock::realtime_ns();
        let mut exports = args.exports.open(None, started)?;
        let store = match args.saving.no_save {
            true => None,
            false => {
                let store = RunFolder::create(&args.saving.out, "proxy", started)
                    .map_err(CliError::runtime)?;
                Some((Ledger::new(&args.saving.out), store))
            }
        };
        let record = record(started);
        let mut stream = exports.stream.take();
        if let Some(stream) = &mut stream {
            stream.line(&Line::Start(&record.meta));
        }
        let live = match live {
            true => Some(LiveLoad {
                live: Live::start("bench proxy", "errors")?,
                progress: Arc::default(),
                duration: args.duration / args.repeat,
            }),
            false => None,
        };
        Ok(Self {
            record,
            hlog: exports.hlog.take(),
            stream,
            latencies: Latencies::default(),
            histograms: Histograms::default(),
            store,
            saved: false,
            shown: !args.saving.quiet && !exports.uses_stdout(),
            exports: Some(exports),
            progress: Progress::new(args.saving.quiet || live.is_some()),
            text: TextOut::new(live.is_some()),
            live,
            expected: 0,
        })
    }

    /// Where the load generator publishes its progress for the live view.
    pub(super) fn progress(&self) -> Option<Arc<load::progress::Progress>> {
        self.live.as_ref().map(|of| of.progress.clone())
    }

    /// Prints the omitted scenarios and sets the number of planned runs.
    pub(super) fn expect(&mut self, runs: usize, left_out: Vec<String>) -> Result<(), CliError> {
        self.expected = runs;
        if self.shown {
            let lines = left_out.into_iter();
            self.text.print(|out| {
                lines
                    .map(|sentence| writeln!(out, "{sentence}"))
                    .fold(Ok(()), Result::and)
            })?;
        }
        Ok(())
    }

    /// Prints and writes the results of all runs, whatever the outcome. `interrupted`: a signal came.
    pub(super) fn close(
        mut self,
        outcome: Result<(), CliError>,
        interrupted: bool,
    ) -> Result<(), CliError> {
        self.progress.clear();
        // Leaves the live view.
        self.live = None;
        // The first error is the cause.
        let outcome = CliError::first(outcome, self.text.release());
        let mut stream = self.stream.take();
        let outcome = self.results(outcome, interrupted, stream.as_mut());
        let store = self.store.as_ref().filter(|_| self.saved);
        let saved = store.map(|(_, store)| store.path().display().to_string());
        match stream {
            Some(stream) => stream.close(outcome, saved),
            None => outcome,
        }
    }

    fn results(
        &mut self,
        outcome: Result<(), CliError>,
        interrupted: bool,
        stream: Option<&mut JsonStream>,
    ) -> Result<(), CliError> {
        // A signal after the last run has no effect.
        let runs = &self.record.runs;
        let cut = runs.iter().any(|run| run.interrupted);
        self.record.interrupted = interrupted && (cut || runs.len() < self.expected);
        if self.record.runs.is_empty() {
            return outcome.and(Err(CliError::runtime(
                "interrupted before anything was measured",
            )));
        }
        let finished = self.finish();
        if let Some(stream) = stream {
            stream.line(&Line::proxy_result(&self.record));
        }
        // The first error is the cause.
        CliError::first(outcome, finished)?;
        let record = &self.record;
        let incomplete = incomplete_fleet(record)
            .or_else(|| path_without_answers(record))
            .or_else(|| rounds_without_answers(record));
        match incomplete {
            // After an interruption missing results are expected.
            Some(sentence) if !self.record.interrupted => Err(CliError::Runtime(sentence)),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        let runs = &self.record.runs;
        let (all, added) = (totals(runs, &self.latencies), overhead(runs));
        self.record.comparison = within_command(runs);
        self.record.totals = all;
        self.record.overhead = added;
        self.record.curves = self.histograms.curves();
        let record = &self.record;
        let saved = match &mut self.store {
            Some((_, store)) if self.saved => store.save_record(record).and_then(|()| {
                let has_ranks = record.runs.iter().any(|run| run.fleet.is_some());
                if has_ranks {
                    store.save_proxy_ranks(record)
                } else {
                    Ok(())
                }
            }),
            _ => Ok(()),
        };
        let logged = self.hlog.take().map_or(Ok(()), Hlog::close);
        let shown = self.show();
        let exports = self.exports.take();
        let record = &self.record;
        let id = self.store.as_ref().map(|(_, store)| store.id());
        let id = &*id.unwrap_or_default();
        let document = Document::ProxyRuns { id, record };
        let exported = exports.map_or(Ok(()), |exports| exports.write(&document));
        // Every destination is written even if another one failed.
        let saved = saved.map_err(CliError::runtime);
        CliError::first(CliError::first(saved.and(exported), logged), shown)
    }

    /// Prints the results and the folder.
    fn show(&mut self) -> Result<(), CliError> {
        if !self.shown {
            return Ok(());
        }
        let record = &self.record;
        let store = self.store.as_ref().filter(|_| self.saved);
        self.text.print(|out| {
            Text.write(&Document::ProxyRuns { id: "", record }, out)?;
            match store {
                Some((_, store)) => writeln!(out, "saved       {}", store.path().display()),
                None => Ok(()),
            }
        })
    }
}

impl Observer for Output {
    type Error = CliError;

    fn started(&mut self, scenario: Scenario, path: Path<'_>, round: usize) {
        self.progress.message(format!(
            "{} of {}: {} {}, round {}",
            self.record.runs.len() + 1,
            self.expected,
            scenario.name(),
            path.name(),
            round + 1
        ));
        if let Some(of) = &self.live {
            let setting = path.proxy().and_then(|proxy| proxy.setting.as_deref());
            let setting = setting.iter().flat_map(|name| [" ", name]);
            of.live.measurement(&live::Measurement {
                scenario,
                path: std::iter::once(path.name()).chain(setting).collect(),
                number: (self.record.runs.len() + 1, self.expected),
                round: round + 1,
                duration: of.duration,
                progress: &of.progress,
            });
        }
    }

    fn finished(&mut self, measured: Measured) -> Result<(), CliError> {
        self.latencies.add(&measured);
        if let Some(of) = &self.live {
            of.live.measured(&measured);
        }
        let run = &measured.run;
        let both = [&measured.latency, &measured.latency_from_intended];
        let named = run.histograms().into_iter().zip(both);
        let histograms: Vec<_> = named.filter(|(_, latency)| !latency.is_empty()).collect();
        for (name, latency) in &histograms {
            self.histograms.add(name, latency);
        }
        if let Some(stream) = &mut self.stream {
            let number = self.record.runs.len();
            stream.line(&Line::run(number, run));
            for message in &run.warnings {
                stream.line(&Line::Warning {
                    run: number,
                    message,
                });
            }
        }
        if let Some(log) = &mut self.hlog {
            let seconds = run.seconds.unwrap_or_default();
            let start_ns = clock::realtime_ns().saturating_sub((seconds * 1e9) as u64);
            for (name, latency) in &histograms {
                log.interval(name.trim_end_matches(".hgrm"), start_ns, seconds, latency);
            }
        }
        self.record.runs.push(run.clone());
        let Some((ledger, store)) = &mut self.store else {
            return Ok(());
        };
        store
            .save_proxy(&self.record, &measured)
            .map_err(CliError::runtime)?;
        self.saved = true;
        let id = store.id();
        let row = LedgerRow::last(&id, &self.record.meta, &self.record.runs);
        let added = row.map_or(Ok(()), |row| ledger.append(&row));
        added.map_err(CliError::runtime)
    }

    fn failed(&mut self, error: io::Error) -> CliError {
        let error = with_advice(&error);
        CliError::Runtime(format!("the load generator cannot go on: {error}"))
    }
}

/// A merged run that lacks ranks, as an error. Where no rank has an answer, the path is the error.
fn incomplete_fleet(record: &ProxyRecord) -> Option<String> {
    let lacks = |run: &&Run| run.fleet.is_some() && !run.complete && run.requests > 0;
    let run = record.runs.iter().find(lacks)?;
    let reason = run.reason.as_deref().unwrap_or("it ended early");
    Some(format!("the run is incomplete: {reason}"))
}

/// A path without a complete run, as an error.
fn path_without_answers(record: &ProxyRecord) -> Option<String> {
    let total = record.totals.iter().find(|total| total.runs == 0)?;
    let run = record.runs.iter().find(|run| {
        (&run.scenario, &run.path, &run.setting) == (&total.scenario, &total.path, &total.setting)
    })?;
    let why = run.first_errors.first().map_or("no answer", |why| why);
    let is_other_refusal = total.scenario == "blocked" && why.starts_with("refused_by_proxy");
    let advice = match is_other_refusal {
        true => Some("a blocklist has another reply; check --blocked and --user"),
        false => advice(why),
    };
    let advice = advice.map(|advice| format!("; {advice}"));
    Some(format!(
        "no {} request was answered correctly on the {} path: {why}{}",
        total.scenario,
        total.path,
        advice.unwrap_or_default()
    ))
}

/// A path whose figures are those of some rounds only, as an error.
fn rounds_without_answers(record: &ProxyRecord) -> Option<String> {
    let is_without = |run: &&Run| !run.complete && !run.interrupted && run.requests == 0;
    let run = record.runs.iter().find(is_without)?;
    let of_path = |other: &&Run| {
        (&other.scenario, &other.path, &other.setting) == (&run.scenario, &run.path, &run.setting)
    };
    let rounds = record.runs.iter().filter(of_path).count();
    let without = record.runs.iter().filter(of_path).filter(is_without);
    let reason = run.reason.as_deref().unwrap_or("no answer");
    let why = run.first_errors.first().map_or(reason, |why| why);
    Some(format!(
        "no {} request was answered correctly on the {} path in {} of {rounds} rounds: {why}; its figures are of the other rounds",
        run.scenario,
        run.path,
        without.count(),
    ))
}

/// A record without runs.
fn record(started: u64) -> ProxyRecord {
    ProxyRecord {
        meta: Meta::here("proxy", started, command_line()),
        runs: Vec::new(),
        comparison: Vec::new(),
        totals: Vec::new(),
        overhead: Vec::new(),
        interrupted: false,
        curves: Curves::default(),
    }
}
