//! The options that write a document: a file, or stdout for `-`.
//!
//! A file is created before the measurement, so that a path without write permission fails early, and is renamed when it is complete.

use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CliError;
use super::sink::Sink;
use crate::report::export::csv::Csv;
use crate::report::export::html::Html;
use crate::report::export::json::Json;
use crate::report::export::markdown::Markdown;
use crate::report::export::{Document, Exporter};

/// Formats of a command's runs.
#[derive(Debug, Args)]
pub(super) struct RunExports {
    /// Write the record as JSON; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Write the runs as CSV; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Write the headline figures as Markdown tables; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    markdown: Option<PathBuf>,
    /// Write a self-contained HTML page with charts; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    html: Option<PathBuf>,
}

impl RunExports {
    /// Opens the requested files.
    pub(super) fn open(&self) -> Result<Exports, CliError> {
        Exports::open([
            ("--json", &self.json, &Json as &dyn Exporter),
            ("--csv", &self.csv, &Csv),
            ("--markdown", &self.markdown, &Markdown),
            ("--html", &self.html, &Html),
        ])
    }

    /// The option that writes to stdout.
    pub(super) fn stdout_option(&self) -> Option<&'static str> {
        let options = [
            ("--json", &self.json),
            ("--csv", &self.csv),
            ("--markdown", &self.markdown),
            ("--html", &self.html),
        ];
        let mut on_stdout = options
            .into_iter()
            .filter(|(_, path)| path.as_deref().is_some_and(is_stdout));
        on_stdout.next().map(|(option, _)| option)
    }
}

/// Formats of a comparison of two records.
#[derive(Debug, Args)]
pub(super) struct ComparisonExports {
    /// Write the comparison as JSON; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Write the comparison as a Markdown table; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH")]
    markdown: Option<PathBuf>,
    /// Write the comparison as a self-contained HTML page with charts; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
}

impl ComparisonExports {
    /// Opens the requested files.
    pub(super) fn open(&self) -> Result<Exports, CliError> {
        Exports::open([
            ("--json", &self.json, &Json as &dyn Exporter),
            ("--markdown", &self.markdown, &Markdown),
            ("--html", &self.html, &Html),
        ])
    }
}

/// Open files, each with its format.
pub(super) struct Exports(Vec<(&'static dyn Exporter, Sink)>);

impl Exports {
    fn open<const N: usize>(
        formats: [(&str, &Option<PathBuf>, &'static dyn Exporter); N],
    ) -> Result<Self, CliError> {
        let mut open = Vec::new();
        let mut on_stdout: Option<&str> = None;
        for (option, path, exporter) in formats {
            let Some(path) = path else { continue };
            if is_stdout(path)
                && let Some(other) = on_stdout.replace(option)
            {
                return Err(CliError::Usage(format!(
                    "{other} - and {option} - cannot share standard output; give one of them a path"
                )));
            }
            open.push((exporter, Sink::open(path, option)?));
        }
        Ok(Self(open))
    }

    /// A document goes to stdout, and no other output may.
    pub(super) fn uses_stdout(&self) -> bool {
        self.0.iter().any(|(_, sink)| matches!(sink, Sink::Stdout))
    }

    /// Writes the document in all formats. An error of one format does not keep others from being written.
    pub(super) fn write(self, document: &Document<'_>) -> Result<(), CliError> {
        let formats = self.0.into_iter();
        formats
            .map(|(exporter, sink)| sink.write(|out| exporter.write(document, out)))
            .fold(Ok(()), Result::and)
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}
