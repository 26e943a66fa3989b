//! The options that write a document: a file, or stdout for `-`.
//!
//! A file is created before the measurement, so that a path without write permission fails early, and is renamed when it is complete.

use std::path::{Path, PathBuf};

use clap::Args;

use super::during::{Hlog, JsonStream};
use super::error::CliError;
use super::sink::{Sink, is_stdout};
use crate::report::export::csv::Csv;
use crate::report::export::html::{Html, Picture};
use crate::report::export::json::Json;
use crate::report::export::markdown::Markdown;
use crate::report::export::metrics::{OpenMetrics, Prometheus};
use crate::report::export::{Document, Exporter};

/// Formats of a record or comparison as a whole.
#[derive(Debug, Args)]
pub(super) struct DocumentExports {
    /// Write the record as JSON; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Write the headline figures as Markdown tables; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    markdown: Option<PathBuf>,
    /// Write a self-contained HTML page with charts; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    html: Option<PathBuf>,
    /// Write the headline charts as one SVG picture; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    svg: Option<PathBuf>,
    /// Write the figures as OpenMetrics text; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    openmetrics: Option<PathBuf>,
    /// Write the figures as Prometheus text, to a .prom file for the textfile collector; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    prometheus: Option<PathBuf>,
}

impl DocumentExports {
    /// Opens the requested files.
    pub(super) fn open(&self) -> Result<Exports, CliError> {
        self.open_with(None, [])
    }

    /// Opens the requested files, and that of `more`, a format of one command only. `during` are options whose files are written
    /// during the runs.
    fn open_with<'a>(
        &'a self,
        more: impl IntoIterator<Item = Format<'a>>,
        during: impl IntoIterator<Item = (&'static str, &'a Option<PathBuf>)>,
    ) -> Result<Exports, CliError> {
        let formats: Vec<Format<'_>> = self.formats().into_iter().chain(more).collect();
        let options = formats.iter().map(|(option, path, _)| (*option, *path));
        check_stdout(options.chain(during))?;
        check_prom(self.prometheus.as_deref())?;
        Exports::open(&formats)
    }

    fn formats(&self) -> [Format<'_>; 6] {
        [
            ("--json", &self.json, &Json),
            ("--markdown", &self.markdown, &Markdown),
            ("--html", &self.html, &Html),
            ("--svg", &self.svg, &Picture),
            ("--openmetrics", &self.openmetrics, &OpenMetrics),
            ("--prometheus", &self.prometheus, &Prometheus),
        ]
    }
}

/// Formats of a search.
#[derive(Debug, Args)]
pub(super) struct SearchExports {
    #[command(flatten)]
    documents: DocumentExports,
    /// Write the trials as CSV; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    csv: Option<PathBuf>,
}

impl SearchExports {
    /// Opens the requested files.
    pub(super) fn open(&self) -> Result<Exports, CliError> {
        let csv: Format<'_> = ("--csv", &self.csv, &Csv);
        self.documents.open_with([csv], [])
    }
}

/// Formats of a command's runs.
#[derive(Debug, Args)]
pub(super) struct RunExports {
    #[command(flatten)]
    documents: DocumentExports,
    /// Write the runs as CSV; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Write latency histograms as an HdrHistogram log; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    hlog: Option<PathBuf>,
    /// Write a JSON line for each event as it happens; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    json_stream: Option<PathBuf>,
}

impl RunExports {
    /// Opens the requested files. `more` is a format of one command only; `started` is the start of the command, in ns since the epoch.
    pub(super) fn open(&self, more: Option<Format<'_>>, started: u64) -> Result<Exports, CliError> {
        let csv: Format<'_> = ("--csv", &self.csv, &Csv);
        let during = [("--hlog", &self.hlog), ("--json-stream", &self.json_stream)];
        let formats = [csv].into_iter().chain(more);
        let mut exports = self.documents.open_with(formats, during)?;
        exports.uses_stdout |= during
            .iter()
            .any(|(_, path)| path.as_deref().is_some_and(is_stdout));
        if let Some(path) = &self.hlog {
            exports.hlog = Some(Hlog::open(Sink::open(path, "--hlog")?, started)?);
        }
        if let Some(path) = &self.json_stream {
            let sink = Sink::follow(path, "--json-stream")?;
            exports.stream = Some(JsonStream::new(sink));
        }
        Ok(exports)
    }

    /// Whether an interval log is requested.
    pub(super) fn has_hlog(&self) -> bool {
        self.hlog.is_some()
    }

    /// The option that writes to stdout.
    pub(super) fn stdout_option(&self) -> Option<&'static str> {
        let documents = self.documents.formats();
        let paths = documents.iter().map(|(option, path, _)| (*option, *path));
        let mut options = paths.chain([
            ("--csv", &self.csv),
            ("--hlog", &self.hlog),
            ("--json-stream", &self.json_stream),
        ]);
        let on_stdout = options.find(|(_, path)| path.as_deref().is_some_and(is_stdout));
        on_stdout.map(|(option, _)| option)
    }
}

/// An option, its path, and the format that it selects.
pub(super) type Format<'a> = (&'static str, &'a Option<PathBuf>, &'static dyn Exporter);

/// Open files, each with its format.
pub(super) struct Exports {
    documents: Vec<(&'static dyn Exporter, Sink)>,
    uses_stdout: bool,
    /// The interval log, if it is requested.
    pub(super) hlog: Option<Hlog>,
    /// The JSON lines, if they are requested.
    pub(super) stream: Option<JsonStream>,
}

impl Exports {
    /// As [`Self::open`], for the formats of a command of its own.
    pub(super) fn of(formats: &[Format<'_>]) -> Result<Self, CliError> {
        check_stdout(formats.iter().map(|(option, path, _)| (*option, *path)))?;
        Self::open(formats)
    }

    fn open(formats: &[Format<'_>]) -> Result<Self, CliError> {
        let mut documents = Vec::new();
        for (option, path, exporter) in formats {
            if let Some(path) = path {
                documents.push((*exporter, Sink::open(path, option)?));
            }
        }
        Ok(Self {
            uses_stdout: documents
                .iter()
                .any(|(_, sink)| matches!(sink, Sink::Stdout)),
            documents,
            hlog: None,
            stream: None,
        })
    }

    /// A document goes to stdout, and no other output may.
    pub(super) fn uses_stdout(&self) -> bool {
        self.uses_stdout
    }

    /// Writes the document in all formats. An error of one format does not keep others from being written.
    pub(super) fn write(self, document: &Document<'_>) -> Result<(), CliError> {
        let formats = self.documents.into_iter();
        formats
            .map(|(exporter, sink)| sink.write(|out| exporter.write(document, out)))
            .fold(Ok(()), Result::and)
    }
}

/// Checks that at most one option writes to stdout.
fn check_stdout<'a>(
    options: impl Iterator<Item = (&'static str, &'a Option<PathBuf>)>,
) -> Result<(), CliError> {
    let mut on_stdout = options
        .filter(|(_, path)| path.as_deref().is_some_and(is_stdout))
        .map(|(option, _)| option);
    match (on_stdout.next(), on_stdout.next()) {
        (Some(one), Some(other)) => Err(CliError::Usage(format!(
            "{one} - and {other} - cannot share standard output; give one of them a path"
        ))),
        _ => Ok(()),
    }
}

/// Checks the file name: the textfile collector reads no other files.
fn check_prom(path: Option<&Path>) -> Result<(), CliError> {
    match path {
        Some(path) if !is_stdout(path) && path.extension().is_none_or(|end| end != "prom") => {
            Err(CliError::Usage(format!(
                "the textfile collector reads files whose name ends in .prom: rename {} (--prometheus)",
                path.display()
            )))
        }
        _ => Ok(()),
    }
}
