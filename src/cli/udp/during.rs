//! Output during the runs of `bench udp`: JSON lines and the interval log.

use crate::cli::during::{Hlog, JsonStream};
use crate::cli::error::{self, CliError};
use crate::cli::exports::Exports;
use crate::dates;
use crate::report::export::hlog;
use crate::report::export::json_stream::Line;
use crate::report::model::{Meta, UdpRecord};
use crate::stats::latency::Latency;
use crate::udp::latencies::Latencies;
use crate::udp::plan::Direction;
use crate::udp::result::{Interval, Measured, Run};

/// The outputs during the runs.
pub(super) struct During {
    hlog: Option<Hlog>,
    stream: Option<JsonStream>,
    /// Whether the log has a line for each interval.
    by_interval: bool,
    /// The setting of each direction of the current run.
    settings: Vec<Option<String>>,
    /// When the current run began, in ns since the epoch.
    begun_ns: u64,
    /// Latencies in the log, of each direction of the current run.
    logged: [u64; 2],
}

impl During {
    /// Takes the outputs from `exports`.
    pub(super) fn begin(exports: &mut Exports, meta: &Meta, by_interval: bool) -> Self {
        let mut stream = exports.stream.take();
        if let Some(stream) = &mut stream {
            stream.line(&Line::Start(meta));
        }
        Self {
            hlog: exports.hlog.take(),
            stream,
            by_interval,
            settings: Vec::new(),
            begun_ns: 0,
            logged: [0; 2],
        }
    }

    pub(super) fn next(&mut self, settings: &[Option<String>]) {
        settings.clone_into(&mut self.settings);
        self.logged = [0; 2];
    }

    pub(super) fn begun(&mut self, now: u64) {
        self.begun_ns = now;
    }

    /// The place of a direction in the current run, from 0.
    pub(super) fn place(&self, direction: Direction) -> usize {
        match direction {
            Direction::Reverse => self.settings.len().saturating_sub(1),
            Direction::Forward | Direction::Both => 0,
        }
    }

    /// An interval of the current run; `run` is the number of its first direction.
    pub(super) fn interval(
        &mut self,
        run: usize,
        direction: Direction,
        row: &Interval,
        latencies: Option<&Latencies>,
    ) {
        let number = self.place(direction);
        let setting = self.settings.get(number).cloned().flatten();
        if let Some(stream) = &mut self.stream {
            stream.line(&Line::Interval {
                run: run + number,
                direction: direction.name(),
                setting: setting.as_deref(),
                row,
            });
        }
        if !self.by_interval || (latencies.is_none() && row.packets > 0) {
            return;
        }
        let start_ns = self.begun_ns.saturating_add((row.start_s * 1e9) as u64);
        let nothing = Latency::new();
        let (actual, intended) = match latencies {
            Some(latencies) => (&latencies.actual, &latencies.intended),
            // An interval without a datagram.
            None => (&nothing, &nothing),
        };
        if let Some(logged) = self.logged.get_mut(number) {
            *logged = logged.saturating_add(actual.count());
        }
        self.log(setting, start_ns, row.seconds, actual, intended);
    }

    /// The row that was computed after the run.
    pub(super) fn closing_row(&mut self, number: usize, run: &Run, row: &Interval) {
        if let Some(stream) = &mut self.stream {
            stream.line(&Line::Interval {
                run: number,
                direction: &run.direction,
                setting: run.setting.as_deref(),
                row,
            });
        }
    }

    fn log(
        &mut self,
        setting: Option<String>,
        start_ns: u64,
        seconds: f64,
        actual: &Latency,
        intended: &Latency,
    ) {
        let Some(log) = &mut self.hlog else { return };
        let has_settings = setting.is_some();
        let of = Run {
            setting,
            ..Run::default()
        };
        let [tag, tag_of_intended] = hlog::tags(&of, has_settings);
        log.interval(&tag, start_ns, seconds, actual);
        if !intended.is_empty() {
            log.interval(&tag_of_intended, start_ns, seconds, intended);
        }
    }

    /// A run has ended.
    pub(super) fn run(&mut self, number: usize, measured: &Measured) {
        let run = &measured.run;
        if let Some(stream) = &mut self.stream {
            stream.line(&Line::run(number, run));
            for message in &run.warnings {
                stream.line(&Line::Warning {
                    run: number,
                    message,
                });
            }
        }
        if self.hlog.is_some() {
            self.log_run(measured);
        }
    }

    /// Adds the line of the whole run, unless its intervals have lines.
    fn log_run(&mut self, measured: &Measured) {
        let run = &measured.run;
        let all = measured.latency.count();
        if all == 0 {
            let why = run.effective.clock.note.as_deref();
            if let Some(log) = &mut self.hlog {
                log.comment(why.unwrap_or("the run has no latency"));
            }
            return;
        }
        let number = usize::from(run.direction == "reverse" && self.settings.len() > 1);
        let logged = self.logged.get(number).copied().unwrap_or_default();
        if self.by_interval && logged == all {
            return;
        }
        if self.by_interval {
            let why = format!(
                "the interval log has {logged} of {all} latencies by interval: the receiver sent the other histograms only for the whole run"
            );
            error::print_line(&why);
            if let Some(log) = &mut self.hlog {
                log.comment(&why);
            }
            if logged > 0 {
                // The line of the whole run would count these twice.
                return;
            }
        }
        let first = run.first_sent_at.as_deref().and_then(dates::parse_rfc3339);
        self.log(
            run.setting.clone(),
            first.unwrap_or(self.begun_ns),
            run.seconds.unwrap_or_default(),
            &measured.latency,
            &measured.latency_from_intended,
        );
    }

    /// All runs have ended.
    pub(super) fn finish(&mut self, record: &UdpRecord) -> Result<(), CliError> {
        if let Some(stream) = &mut self.stream {
            stream.line(&Line::udp_result(record));
        }
        self.hlog.take().map_or(Ok(()), Hlog::close)
    }

    /// Writes the last line.
    pub(super) fn close(
        self,
        outcome: Result<(), CliError>,
        saved: Option<String>,
    ) -> Result<(), CliError> {
        match self.stream {
            Some(stream) => stream.close(outcome, saved),
            None => outcome,
        }
    }
}
