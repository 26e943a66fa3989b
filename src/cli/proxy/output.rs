//! Output of `bench proxy`: the table on stdout, the progress line and the files.
//!
//! Every file is opened before the first measurement, and every run is saved when it ends.

use std::io::{self, Write};
use std::path::PathBuf;

use super::args::Load;
use crate::cli::command_line;
use crate::cli::error::CliError;
use crate::cli::progress::Progress;
use crate::cli::sink::Sink;
use crate::load::plan::{Path, Scenario};
use crate::load::session::Observer;
use crate::report::ledger::{self, Ledger};
use crate::report::proxy::columns::Row;
use crate::report::proxy::overhead::{compared, overhead};
use crate::report::proxy::totals::{Latencies, totals};
use crate::report::proxy::{Measured, Record, Run, text};
use crate::report::record::{self, Host, SCHEMA};
use crate::report::store::{Store, histogram_name};
use crate::report::{dates, json};
use crate::sys::clock;

/// Destinations of runs.
pub(super) struct Output {
    record: Record,
    latencies: Latencies,
    store: Option<(Ledger, Store)>,
    saved: bool,
    json: Option<Sink>,
    csv: Option<Sink>,
    progress: Progress,
    /// Whether stdout shows text.
    shown: bool,
    /// Number of planned runs.
    expected: usize,
}

impl Output {
    /// Opens all destinations.
    pub(super) fn open(args: &Load) -> Result<Self, CliError> {
        let started = clock::realtime_ns();
        let open = |path: &Option<PathBuf>, option| {
            path.as_deref()
                .map(|path| Sink::open(path, option))
                .transpose()
        };
        let (json, csv) = (open(&args.json, "--json")?, open(&args.csv, "--csv")?);
        let is_stdout = |sink: &Option<Sink>| matches!(sink, Some(Sink::Stdout));
        if is_stdout(&json) && is_stdout(&csv) {
            return Err(CliError::usage(
                "--json - and --csv - cannot share standard output; give one of them a path",
            ));
        }
        let store = match args.no_save {
            true => None,
            false => {
                let store =
                    Store::create(&args.out, "proxy", started).map_err(CliError::runtime)?;
                Some((Ledger::new(&args.out), store))
            }
        };
        Ok(Self {
            record: record(started),
            latencies: Latencies::default(),
            store,
            saved: false,
            shown: !args.quiet && !is_stdout(&json) && !is_stdout(&csv),
            json,
            csv,
            progress: Progress::new(args.quiet),
            expected: 0,
        })
    }

    /// Prints the omitted scenarios and sets the number of planned runs.
    pub(super) fn expect(&mut self, runs: usize, left_out: Vec<String>) -> Result<(), CliError> {
        self.expected = runs;
        if self.shown {
            let mut out = io::stdout().lock();
            for sentence in left_out {
                writeln!(out, "{sentence}")?;
            }
            out.flush()?;
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
        // A signal after the last run has no effect.
        let runs = &self.record.frame.runs;
        let cut = runs.iter().any(|run| run.interrupted);
        self.record.interrupted = interrupted && (cut || runs.len() < self.expected);
        if self.record.frame.runs.is_empty() {
            return outcome.and(Err(CliError::runtime(
                "interrupted before anything was measured",
            )));
        }
        let finished = self.finish();
        // The first error is the cause.
        CliError::first(outcome, finished)?;
        match path_without_answers(&self.record) {
            // After an interruption missing results are expected.
            Some(sentence) if !self.record.interrupted => Err(CliError::Runtime(sentence)),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        let runs = &self.record.frame.runs;
        let (all, added) = (totals(runs, &self.latencies), overhead(runs));
        self.record.frame.comparison = compared(runs);
        self.record.totals = all;
        self.record.overhead = added;
        let record = &self.record;
        let saved = match &mut self.store {
            Some((_, store)) if self.saved => store.save_record(record),
            _ => Ok(()),
        };
        let shown = self.show();
        let record = &self.record;
        let id = self.store.as_ref().map(|(_, store)| store.id());
        let json = match self.json.take() {
            Some(sink) => sink.write(|out| json::write(record, out)),
            None => Ok(()),
        };
        let id = id.unwrap_or_default();
        let csv = match self.csv.take() {
            Some(sink) => sink.write(|out| ledger::write_fresh(out, &Row::all(&id, record))),
            None => Ok(()),
        };
        // Every destination is written even if another one failed.
        let saved = saved.map_err(CliError::runtime);
        saved.and(json).and(csv).and(shown)
    }

    /// Prints the results and the folder.
    fn show(&self) -> Result<(), CliError> {
        if !self.shown {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        text::summary(&self.record, &mut out)?;
        if let Some((_, store)) = self.store.as_ref().filter(|_| self.saved) {
            writeln!(out, "saved       {}", store.path().display())?;
        }
        Ok(out.flush()?)
    }
}

impl Observer for Output {
    type Error = CliError;

    fn started(&mut self, scenario: Scenario, path: Path<'_>, round: usize) {
        self.progress.message(format!(
            "{} of {}: {} {}, round {}",
            self.record.frame.runs.len() + 1,
            self.expected,
            scenario.name(),
            path.name(),
            round + 1
        ));
    }

    fn finished(&mut self, measured: Measured) -> Result<(), CliError> {
        self.latencies.add(&measured);
        let run = &measured.run;
        let name = |name: &str| histogram_name(name, Some(&histogram_suffix(run)));
        let mut histograms = Vec::new();
        for (kind, latency) in [
            ("latency", &measured.latency),
            ("latency-intended", &measured.latency_from_intended),
        ] {
            if !latency.is_empty() {
                histograms.push((name(kind), latency));
            }
        }
        self.record.frame.runs.push(run.clone());
        let Some((ledger, store)) = &mut self.store else {
            return Ok(());
        };
        store
            .save_with(&self.record, &self.record.frame.runs, &histograms)
            .map_err(CliError::runtime)?;
        self.saved = true;
        let id = store.id();
        let row = Row::last(&id, &self.record);
        ledger.append(row.as_slice()).map_err(CliError::runtime)
    }

    fn failed(&mut self, error: io::Error) -> CliError {
        CliError::Runtime(format!("the load generator cannot go on: {error}"))
    }
}

/// Suffix of a run's histogram files.
fn histogram_suffix(run: &Run) -> String {
    let setting = run.setting.as_deref().unwrap_or_default();
    format!("{} {} {setting}", run.scenario, run.path)
}

/// A path without a complete run, as an error.
fn path_without_answers(record: &Record) -> Option<String> {
    let total = record.totals.iter().find(|total| total.runs == 0)?;
    let run = record.frame.runs.iter().find(|run| {
        (&run.scenario, &run.path, &run.setting) == (&total.scenario, &total.path, &total.setting)
    })?;
    let why = run.first_errors.first().map_or("no answer", |why| why);
    Some(format!(
        "no {} request was answered correctly on the {} path: {why}",
        total.scenario, total.path
    ))
}

/// A record without runs.
fn record(started: u64) -> Record {
    Record {
        frame: record::Record {
            schema: SCHEMA,
            kind: "proxy".to_owned(),
            wirebench: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: dates::rfc3339(started),
            command: command_line(),
            host: Host::here(),
            runs: Vec::new(),
            comparison: Vec::new(),
        },
        totals: Vec::new(),
        overhead: Vec::new(),
        interrupted: false,
    }
}
