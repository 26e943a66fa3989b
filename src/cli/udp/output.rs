//! Output of `bench udp`: rows and summaries on stdout, the progress line and the files.
//!
//! Every file is opened before the first run, so that an unwritable file is an error then. Every run is shown and saved when it
//! ends.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::during::During;
use super::plan::Planned;
use super::{now, record};
use crate::cli::args::Udp;
use crate::cli::error::CliError;
use crate::cli::exports::Exports;
use crate::cli::live::{self, Live};
use crate::cli::progress::Progress;
use crate::cli::text_out::TextOut;
use crate::report::compare::udp::{Latencies as SettingLatencies, within_command};
use crate::report::export::columns::LedgerRow;
use crate::report::export::hgrm::Histograms;
use crate::report::export::intervals::IntervalsWriter;
use crate::report::export::iperf3::Iperf3;
use crate::report::export::packets::{PacketRow, PacketsWriter};
use crate::report::export::text::{self, Text};
use crate::report::export::{Document, Exporter};
use crate::report::model::{Distributed, UdpRecord};
use crate::report::store::atomic_file::AtomicFile as File;
use crate::report::store::{Ledger, RunFolder};
use crate::udp::client::{Observer, Packet};
use crate::udp::latencies::Latencies;
use crate::udp::plan::Direction;
use crate::udp::result::{Interval, Measured};

/// Destinations of runs.
pub(super) struct Output {
    record: UdpRecord,
    /// Latencies of each setting of a comparison.
    latencies: Option<SettingLatencies>,
    /// For the formats that draw them.
    histograms: Histograms,
    saving: Option<Saving>,
    exports: Option<Exports>,
    during: During,
    progress: Progress,
    live: Option<Live>,
    /// Whether stdout shows text.
    shown: bool,
    text: TextOut,
    /// Whether interval rows are printed.
    rows: bool,
    header_printed: bool,
}

/// The run's folder and its growing files.
struct Saving {
    ledger: Ledger,
    store: RunFolder,
    intervals: Option<IntervalsWriter<File>>,
    packets: Option<PacketsWriter<File>>,
    /// Whether the folder has a saved run.
    saved: bool,
    /// The first write error during a run.
    failed: Option<String>,
}

impl Output {
    /// Opens all destinations, and shows the live view if `live`.
    pub(super) fn open(args: &Udp, all: &[Planned], live: bool) -> Result<Self, CliError> {
        let started = now();
        let iperf3_json = ("--iperf3-json", &args.iperf3_json, &Iperf3 as &dyn Exporter);
        if args.iperf3_json.is_some() && (all.len() > 1 || args.repeat > 1) {
            return Err(CliError::usage(
                "the layout of iperf3 has one test: with --iperf3-json, leave out --repeat and lists of values, or run the command once for each",
            ));
        }
        let exports = args.exports.open(Some(iperf3_json), started)?;
        let shown = !exports.uses_stdout() && !args.saving.quiet;
        let is_compared = Planned::settings(all).count() > 1;
        Self::with(args, started, exports, (live, shown, is_compared))
    }

    /// Opens the run's folder only, for a rank that saves its own result. Without a folder the result is shown.
    pub(super) fn of_rank(args: &Udp) -> Result<Self, CliError> {
        let shown = args.saving.no_save && !args.saving.quiet;
        Self::with(args, now(), Exports::of(&[])?, (false, shown, false))
    }

    fn with(
        args: &Udp,
        started: u64,
        mut exports: Exports,
        (live, shown, is_compared): (bool, bool, bool),
    ) -> Result<Self, CliError> {
        let saving = if args.saving.no_save {
            None
        } else {
            Some(Saving::open(args, started)?)
        };
        let record = record(started);
        let live = match live {
            true => Some(Live::start("bench udp", "lost")?),
            false => None,
        };
        Ok(Self {
            during: During::begin(&mut exports, &record.meta, args.interval.is_some()),
            record,
            histograms: Histograms::default(),
            latencies: is_compared.then(SettingLatencies::default),
            saving,
            shown,
            exports: Some(exports),
            progress: Progress::new(args.saving.quiet || live.is_some()),
            text: TextOut::new(live.is_some()),
            rows: args.interval.is_some() && live.is_none(),
            live,
            header_printed: false,
        })
    }

    /// A run of these settings, one a direction, is next.
    pub(super) fn next(&mut self, settings: &[Option<String>]) {
        self.during.next(settings);
    }

    /// Prints the compared settings, if there are several.
    pub(super) fn comparing<'a>(
        &mut self,
        settings: impl Iterator<Item = &'a str>,
        rounds: u32,
    ) -> Result<(), CliError> {
        if self.shown && self.latencies.is_some() {
            self.text
                .print(|mut out| text::comparing(settings, rounds, &mut out))?;
        }
        Ok(())
    }

    /// A run starts.
    pub(super) fn starting(&self, start: &live::Start<'_>) {
        if let Some(live) = &self.live {
            live.udp_run(start);
        }
    }

    /// Whether a run was measured.
    pub(super) fn has_runs(&self) -> bool {
        !self.record.runs.is_empty()
    }

    pub(super) fn warming_up(&self) {
        self.progress.message("warming up".to_owned());
        if let Some(live) = &self.live {
            live.warming_up();
        }
    }

    /// An observer for unreported runs.
    pub(super) fn silent(&self) -> impl Observer + use<> {
        struct Silent;
        impl Observer for Silent {}
        Silent
    }

    /// Shows and saves a run that was not observed, with its rows.
    pub(super) fn add(&mut self, measured: Measured) -> Result<(), CliError> {
        let direction = match measured.run.direction == Direction::Reverse.name() {
            true => Direction::Reverse,
            false => Direction::Forward,
        };
        self.begun();
        for row in &measured.run.intervals {
            self.interval(direction, row, None);
        }
        self.run(Measured {
            closing_row: None,
            ..measured
        })
    }

    /// The run's folder, once it has a run.
    pub(super) fn folder(&self) -> Option<String> {
        let saving = self.saving.as_ref().filter(|saving| saving.saved);
        saving.map(|saving| saving.store.path().display().to_string())
    }

    /// Shows and saves a run.
    pub(super) fn run(&mut self, measured: Measured) -> Result<(), CliError> {
        let number = self.record.runs.len();
        if let Some(row) = &measured.closing_row {
            let direction = match measured.run.direction == Direction::Reverse.name() {
                true => Direction::Reverse,
                false => Direction::Forward,
            };
            self.show_interval(number, direction, row, None);
            self.during.closing_row(number, &measured.run, row);
        }
        if let Some(live) = &self.live {
            live.udp_finished(&measured);
        }
        self.during.run(number, &measured);
        self.record.runs.push(measured.run.clone());
        self.progress.clear();
        let saved = match &mut self.saving {
            Some(saving) => saving.save(&self.record, &measured),
            None => Ok(()),
        };
        if let Some(latencies) = &mut self.latencies {
            latencies.add(&measured);
        }
        let both = [&measured.latency, &measured.latency_from_intended];
        for (name, latency) in measured.run.histograms().iter().zip(both) {
            self.histograms.add(name, latency);
        }
        saved.and(self.show(number, &measured))
    }

    fn show(&mut self, number: usize, measured: &Measured) -> Result<(), CliError> {
        if !self.shown {
            return Ok(());
        }
        let is_compared = self.latencies.is_some();
        self.text.print(|mut out| match is_compared {
            true => text::compared_run(number, &measured.run, &mut out),
            false => text::summary(measured, &mut out),
        })
    }

    /// Prints and writes the results of all runs, whatever the outcome.
    pub(super) fn close(mut self, outcome: Result<(), CliError>) -> Result<(), CliError> {
        self.progress.clear();
        // Leaves the live view.
        self.live = None;
        // The first error is the cause.
        let outcome = CliError::first(outcome, self.text.release());
        let outcome = match self.has_runs() {
            true => CliError::first(outcome, self.finish()),
            false => outcome,
        };
        let saved = self.folder();
        self.during.close(outcome, saved)
    }

    /// Shows and saves an interval of run number `run`.
    fn show_interval(
        &mut self,
        run: usize,
        direction: Direction,
        row: &Interval,
        latencies: Option<&Latencies>,
    ) {
        if let Some(saving) = &mut self.saving
            && let Some(intervals) = &mut saving.intervals
        {
            let written = intervals.row(run, row);
            saving.note(written);
        }
        if self.shown && self.rows {
            let first = !std::mem::replace(&mut self.header_printed, true);
            self.progress.suspend(|| {
                let mut out = io::stdout().lock();
                if first {
                    let _ = writeln!(out, "{}", text::interval_header());
                }
                let _ = writeln!(out, "{}", text::interval(row));
                let _ = out.flush();
            });
        }
        self.progress.interval(row);
        if let Some(live) = &self.live {
            live.interval(direction, row, latencies);
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        let id = self
            .saving
            .as_ref()
            .map(|saving| saving.store.id())
            .unwrap_or_default();
        if let Some(latencies) = &self.latencies {
            self.record.comparison = within_command(&self.record.runs, latencies);
        }
        self.record.curves = self.histograms.curves();
        let record = &self.record;
        // The comparison is shown even if it cannot be saved.
        let compared = match &mut self.saving {
            Some(saving) if self.latencies.is_some() => saving.store.save_comparison(record),
            Some(saving) => saving.store.finish(record),
            None => Ok(()),
        };
        if let Some(saving) = &mut self.saving
            && record.runs.iter().any(|run| run.fleet.is_some())
        {
            saving.store.save_ranks(record).map_err(CliError::runtime)?;
        }
        let logged = self.during.finish(&self.record);
        let shown = self.show_all();
        let tail = self.saving.as_mut().map_or(Ok(()), Saving::finish);
        let exports = self.exports.take();
        let record = &self.record;
        let document = Document::UdpRuns { id: &id, record };
        let exported = exports.map_or(Ok(()), |exports| exports.write(&document));
        // Every destination is written even if another one failed.
        let compared = compared.map_err(CliError::runtime);
        let written = tail.and(compared).and(exported);
        CliError::first(CliError::first(written, logged), shown)
    }

    /// Prints the results and the folder.
    fn show_all(&mut self) -> Result<(), CliError> {
        if !self.shown {
            return Ok(());
        }
        let record = &self.record;
        let is_compared = self.latencies.is_some();
        let saving = self.saving.as_ref().filter(|saving| saving.saved);
        self.text.print(|out| {
            if is_compared {
                writeln!(out)?;
            }
            Text.write(&Document::UdpRuns { id: "", record }, out)?;
            if let Some(saving) = saving {
                writeln!(out, "saved       {}", saving.store.path().display())?;
            }
            Ok(())
        })
    }
}

impl Saving {
    fn open(args: &Udp, started: u64) -> Result<Self, CliError> {
        let mut store =
            RunFolder::create(&args.saving.out, "udp", started).map_err(CliError::runtime)?;
        let intervals = Some(store.intervals().map_err(CliError::runtime)?);
        let packets = if args.packets_csv {
            Some(store.packets().map_err(CliError::runtime)?)
        } else {
            None
        };
        Ok(Self {
            ledger: Ledger::new(&args.saving.out),
            store,
            intervals,
            packets,
            saved: false,
            failed: None,
        })
    }

    fn note(&mut self, outcome: io::Result<()>) {
        if let (Err(error), None) = (outcome, &self.failed) {
            self.failed = Some(error.to_string());
        }
    }

    fn save(&mut self, record: &UdpRecord, measured: &Measured) -> Result<(), CliError> {
        if let Some(packets) = &mut self.packets {
            let written = packets.flush();
            self.note(written);
        }
        self.store
            .save(record, measured)
            .map_err(CliError::runtime)?;
        self.saved = true;
        let id = self.store.id();
        let row = LedgerRow::last(&id, &record.meta, &record.runs);
        let added = row.map_or(Ok(()), |row| self.ledger.append(&row));
        added.map_err(CliError::runtime)
    }

    /// Closes the growing files.
    fn finish(&mut self) -> Result<(), CliError> {
        if let Some(intervals) = self.intervals.take() {
            let file = intervals
                .finish()
                .and_then(|file| file.finish().map_err(io::Error::other));
            self.note(file);
        }
        if let Some(packets) = self.packets.take() {
            let file = packets
                .finish()
                .and_then(|file| file.finish().map_err(io::Error::other));
            self.note(file);
        }
        match self.failed.take() {
            Some(error) => Err(CliError::Runtime(error)),
            None => Ok(()),
        }
    }
}

impl Observer for Output {
    fn listening(&mut self, local: SocketAddr) {
        // In a comparison, each run would print it.
        if self.shown && self.latencies.is_none() {
            let _ = self.text.print(|out| writeln!(out, "listening on {local}"));
        }
    }

    fn begun(&mut self) {
        self.during.begun(now());
        self.progress.message("sending".to_owned());
        if let Some(live) = &self.live {
            live.begun();
        }
    }

    fn interval(&mut self, direction: Direction, row: &Interval, latencies: Option<&Latencies>) {
        let run = self.record.runs.len();
        let number = run + self.during.place(direction);
        self.show_interval(number, direction, row, latencies);
        self.during.interval(run, direction, row, latencies);
    }

    fn packet(&mut self, packet: &Packet) {
        let run = self.record.runs.len() + self.during.place(packet.direction);
        if let Some(saving) = &mut self.saving
            && let Some(packets) = &mut saving.packets
        {
            let written = packets.row(
                run,
                &PacketRow {
                    stream: packet.stream,
                    sequence: packet.sequence,
                    sent_ns: packet.sent_ns,
                    received_ns: packet.received_ns,
                    clocks_related: packet.clocks_related,
                    intended_ns: packet.intended_ns,
                },
            );
            saving.note(written);
        }
    }
}
