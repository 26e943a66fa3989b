//! The formats that are written during a run: the interval log of HdrHistogram, and JSON lines.
//!
//! A failed write ends the output and not the run. The error is reported at the end.

use super::error::{self, CliError};
use super::sink::Sink;
use crate::report::export::hlog::HlogWriter;
use crate::report::export::json_stream::Line;
use crate::stats::latency::Latency;

/// An interval log.
pub(super) struct Hlog {
    log: Option<HlogWriter<Sink>>,
    failed: Option<CliError>,
}

impl Hlog {
    /// Begins a log at `started`, in ns since the epoch.
    pub(super) fn open(sink: Sink, started: u64) -> Result<Self, CliError> {
        let is_stdout = matches!(sink, Sink::Stdout);
        let log = HlogWriter::new(sink, started).map_err(|error| match is_stdout {
            true => error.into(),
            false => CliError::runtime(error),
        });
        // A log without a reader does not keep the command from its run.
        match log {
            Ok(log) => Ok(Self {
                log: Some(log),
                failed: None,
            }),
            Err(CliError::BrokenPipe) => Ok(Self {
                log: None,
                failed: Some(CliError::BrokenPipe),
            }),
            Err(error) => Err(error),
        }
    }

    /// Adds the latencies of an interval that starts at `start_ns`, in ns since the epoch.
    pub(super) fn interval(&mut self, tag: &str, start_ns: u64, seconds: f64, latency: &Latency) {
        self.write(|log| log.interval(tag, start_ns, seconds, latency));
    }

    /// Adds a comment.
    pub(super) fn comment(&mut self, sentence: &str) {
        self.write(|log| log.comment(sentence));
    }

    fn write(&mut self, add: impl FnOnce(&mut HlogWriter<Sink>) -> std::io::Result<()>) {
        let Some(mut log) = self.log.take() else {
            return;
        };
        match add(&mut log) {
            Ok(()) => self.log = Some(log),
            Err(error) => self.failed = Some(log.into_inner().error(error)),
        }
    }

    /// Completes the log.
    pub(super) fn close(self) -> Result<(), CliError> {
        match (self.failed, self.log) {
            (Some(error), _) => Err(error),
            (None, Some(log)) => log.into_inner().finish(),
            (None, None) => Ok(()),
        }
    }
}

/// JSON lines.
pub(super) struct JsonStream {
    sink: Option<Sink>,
    failed: Option<CliError>,
}

impl JsonStream {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink: Some(sink),
            failed: None,
        }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        if let Some(sink) = &mut self.sink
            && let Err(error) = line.write(sink)
        {
            self.failed = Some(sink.error(error));
            self.sink = None;
        }
    }

    /// Writes the last line. An error of the command on stdout is written where the command reports it.
    pub(super) fn close(
        mut self,
        outcome: Result<(), CliError>,
        saved: Option<String>,
    ) -> Result<(), CliError> {
        let outcome = CliError::first(outcome, self.failed.take().map_or(Ok(()), Err));
        match &outcome {
            Ok(()) | Err(CliError::BrokenPipe) => self.line(&Line::End { exit: 0, saved }),
            Err(_) if matches!(self.sink, Some(Sink::Stdout)) => {}
            Err(failed) => {
                if let Some((exit, message)) = error::exit_and_message(failed) {
                    self.line(&Line::Error { exit, message });
                }
            }
        }
        CliError::first(outcome, self.failed.take().map_or(Ok(()), Err))
    }
}
