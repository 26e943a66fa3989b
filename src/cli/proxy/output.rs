//! Everything that comes out of `bench proxy`: the table on stdout, the progress line, the files.
//!
//! Every file is opened before anything is measured, and every run is saved as soon as it is over.

use std::io::{self, Write};

use super::args::Load;
use crate::cli::command_line;
use crate::cli::exports::Exports;
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::load::plan::{Path, Scenario};
use crate::load::result::{Measured, Run};
use crate::load::session::Observer;
use crate::report::compare::proxy::{Latencies, overhead, totals, within_command};
use crate::report::export::columns::LedgerRow;
use crate::report::export::text::Text;
use crate::report::export::{Document, Exporter};
use crate::report::model::{Meta, ProxyRecord};
use crate::report::store::{Ledger, RunFolder, histogram_name};
use crate::sys::clock;

/// Where runs go.
pub(super) struct Output {
    record: ProxyRecord,
    latencies: Latencies,
    store: Option<(Ledger, RunFolder)>,
    saved: bool,
    exports: Option<Exports>,
    progress: Progress,
    /// A person reads stdout.
    shown: bool,
    /// Runs there will be.
    expected: usize,
}

impl Output {
    /// Opens everything that will be written.
    pub(super) fn open(args: &Load) -> Result<Self, Failure> {
        let started = clock::realtime_ns();
        let exports = args.exports.open()?;
        let store = match args.no_save {
            true => None,
            false => {
                let store =
                    RunFolder::create(&args.out, "proxy", started).map_err(Failure::undone)?;
                Some((Ledger::new(&args.out), store))
            }
        };
        Ok(Self {
            record: record(started),
            latencies: Latencies::default(),
            store,
            saved: false,
            shown: !args.quiet && !exports.uses_stdout(),
            exports: Some(exports),
            progress: Progress::new(args.quiet),
            expected: 0,
        })
    }

    /// Says what is left out, and learns how many runs there will be.
    pub(super) fn expect(&mut self, runs: usize, left_out: Vec<String>) -> Result<(), Failure> {
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

    /// Says what all runs come to and writes what is left, whatever the outcome was; `interrupted` by a signal, perhaps.
    pub(super) fn close(
        mut self,
        outcome: Result<(), Failure>,
        interrupted: bool,
    ) -> Result<(), Failure> {
        self.progress.clear();
        // A signal after the last run changes nothing.
        let runs = &self.record.runs;
        let cut = runs.iter().any(|run| run.interrupted);
        self.record.interrupted = interrupted && (cut || runs.len() < self.expected);
        if self.record.runs.is_empty() {
            return outcome.and(Err(Failure::undone(
                "it was ended before anything was measured",
            )));
        }
        let finished = self.finish();
        // What went wrong first is what the user needs to know.
        Failure::first(outcome, finished)?;
        match unanswered(&self.record) {
            // Who ends it early knows why there is nothing more.
            Some(sentence) if !self.record.interrupted => Err(Failure::Undone(sentence)),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let runs = &self.record.runs;
        let (all, added) = (totals(runs, &self.latencies), overhead(runs));
        self.record.comparison = within_command(runs);
        self.record.totals = all;
        self.record.overhead = added;
        let record = &self.record;
        let saved = match &mut self.store {
            Some((_, store)) if self.saved => store.save_record(record),
            _ => Ok(()),
        };
        let shown = self.show();
        let exports = self.exports.take();
        let record = &self.record;
        let id = self.store.as_ref().map(|(_, store)| store.id());
        let id = &*id.unwrap_or_default();
        let document = Document::ProxyRuns { id, record };
        let exported = exports.map_or(Ok(()), |exports| exports.write(&document));
        // Whoever does not read on still gets the files, and what went wrong with one is no reason to leave out another.
        let saved = saved.map_err(Failure::undone);
        saved.and(exported).and(shown)
    }

    /// Shows what all runs come to, and where they are.
    fn show(&self) -> Result<(), Failure> {
        if !self.shown {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let record = &self.record;
        Text.write(&Document::ProxyRuns { id: "", record }, &mut out)?;
        if let Some((_, store)) = self.store.as_ref().filter(|_| self.saved) {
            writeln!(out, "saved       {}", store.path().display())?;
        }
        Ok(out.flush()?)
    }
}

impl Observer for Output {
    type Error = Failure;

    fn begins(&mut self, scenario: Scenario, path: Path<'_>, round: usize) {
        self.progress.say(format!(
            "{} of {}: {} {}, round {}",
            self.record.runs.len() + 1,
            self.expected,
            scenario.name(),
            path.name(),
            round + 1
        ));
    }

    fn over(&mut self, measured: Measured) -> Result<(), Failure> {
        self.latencies.add(&measured);
        let run = &measured.run;
        let name = |name: &str| histogram_name(name, Some(&apart(run)));
        let mut histograms = Vec::new();
        for (kind, latency) in [
            ("latency", &measured.latency),
            ("latency-intended", &measured.latency_from_intended),
        ] {
            if !latency.is_empty() {
                histograms.push((name(kind), latency));
            }
        }
        self.record.runs.push(run.clone());
        let Some((ledger, store)) = &mut self.store else {
            return Ok(());
        };
        store
            .save_with(&self.record, &self.record.runs, &histograms)
            .map_err(Failure::undone)?;
        self.saved = true;
        let id = store.id();
        let row = LedgerRow::last(&id, &self.record.meta, &self.record.runs);
        let added = row.map_or(Ok(()), |row| ledger.append(&row));
        added.map_err(Failure::undone)
    }

    fn failed(&mut self, error: io::Error) -> Failure {
        Failure::Undone(format!("the load generator cannot go on: {error}"))
    }
}

/// What tells a run's histogram from others.
fn apart(run: &Run) -> String {
    let setting = run.setting.as_deref().unwrap_or_default();
    format!("{} {} {setting}", run.scenario, run.path)
}

/// A path of which nothing at all was measured, and why, as one sentence.
fn unanswered(record: &ProxyRecord) -> Option<String> {
    let total = record.totals.iter().find(|total| total.runs == 0)?;
    let run = record.runs.iter().find(|run| {
        (&run.scenario, &run.path, &run.setting) == (&total.scenario, &total.path, &total.setting)
    })?;
    let why = run
        .first_errors
        .first()
        .map_or("nothing came back", |why| why);
    Some(format!(
        "no {} request was answered rightly on the {} path: {why}",
        total.scenario, total.path
    ))
}

/// What the record begins with.
fn record(started: u64) -> ProxyRecord {
    ProxyRecord {
        meta: Meta::here("proxy", started, command_line()),
        runs: Vec::new(),
        comparison: Vec::new(),
        totals: Vec::new(),
        overhead: Vec::new(),
        interrupted: false,
    }
}
