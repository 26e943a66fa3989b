//! `bench report`: writes saved records as one HTML page, or their headline charts as a picture.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::args::Report;
use super::error::CliError;
use super::interrupt;
use super::sink::Sink;
use super::sink::is_stdout;
use crate::report::compare::records::{CompareError, RecordComparison, SavedRuns, compare_records};
use crate::report::export::html::{self, Picture};
use crate::report::export::{Document, Exporter};
use crate::report::model::{proxy, udp};
use crate::report::store::saved::{self, Saved};

/// A comparison of two records of one kind.
enum Comparison {
    Udp(RecordComparison<udp::ComparedSetting>),
    Proxy(RecordComparison<proxy::ComparedSetting>),
}

pub(super) fn run(args: &Report) -> Result<(), CliError> {
    interrupt::exit_on_signal().map_err(CliError::runtime)?;
    let records: Vec<(&Path, String, Saved)> = args
        .paths
        .iter()
        .map(|path| Ok((path.as_path(), id(path), saved::read(path)?)))
        .collect::<Result<_, _>>()
        .map_err(|error: saved::ReadError| CliError::runtime(error))?;
    let path = args
        .html
        .clone()
        .unwrap_or_else(|| default_path(&args.paths));
    if is_stdout(&path) && args.svg.as_deref().is_some_and(is_stdout) {
        return Err(CliError::Usage(
            "--html - and --svg - cannot share standard output; give one of them a path".into(),
        ));
    }
    // Only the picture is written if no page is requested.
    let page = match (&args.html, &args.svg) {
        (None, Some(_)) => None,
        _ => Some(Sink::open(&path, "--html")?),
    };
    let picture = args.svg.as_ref();
    let picture = picture.map(|path| Sink::open(path, "--svg")).transpose()?;

    let (comparisons, notes) = compare(&records);
    let compared = comparisons.iter().map(|comparison| match comparison {
        Comparison::Udp(found) => Document::UdpComparison(found),
        Comparison::Proxy(found) => Document::ProxyComparison(found),
    });
    let runs = records.iter().map(|(_, id, saved)| match saved {
        Saved::Udp(record) => Document::UdpRuns { id, record },
        Saved::Search(record) => Document::UdpSearch { id, record },
        Saved::Proxy(record) => Document::ProxyRuns { id, record },
    });
    let documents: Vec<Document<'_>> = compared.chain(runs).collect();
    let mut written = Vec::new();
    if let Some(sink) = page {
        written.extend(matches!(sink, Sink::File(_)).then_some(&path));
        sink.write(|out| html::write_page(&documents, &notes, out))?;
    }
    if let (Some(sink), Some(first)) = (picture, documents.first()) {
        written.extend(args.svg.as_ref().filter(|_| matches!(sink, Sink::File(_))));
        sink.write(|out| Picture.write(first, out))?;
    }
    if args.svg.as_deref().is_some_and(is_stdout) || is_stdout(&path) {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    for path in written {
        writeln!(out, "{}", path.display())?;
    }
    Ok(out.flush()?)
}

/// Compares each record with the first of its kind. A record that cannot be compared has a note instead.
fn compare(records: &[(&Path, String, Saved)]) -> (Vec<Comparison>, Vec<String>) {
    let (mut comparisons, mut notes) = (Vec::new(), Vec::new());
    let mut keep = |found: Result<Comparison, CompareError>| match found {
        Ok(found) => comparisons.push(found),
        Err(error) => notes.push(error.to_string()),
    };
    for (number, (path, _, saved)) in records.iter().enumerate() {
        let mut earlier = records[..number].iter();
        match saved {
            Saved::Udp(new) => {
                let base = earlier.find_map(|(path, _, saved)| match saved {
                    Saved::Udp(base) => Some((path, base)),
                    Saved::Search(_) | Saved::Proxy(_) => None,
                });
                let Some((base_path, base)) = base else {
                    continue;
                };
                let base =
                    SavedRuns::new(base_path, &base.meta, &base.runs).with_curves(&base.curves);
                let new = SavedRuns::new(path, &new.meta, &new.runs).with_curves(&new.curves);
                keep(compare_records(&base, &new).map(Comparison::Udp));
            }
            Saved::Search(_) => {}
            Saved::Proxy(new) => {
                let base = earlier.find_map(|(path, _, saved)| match saved {
                    Saved::Proxy(base) => Some((path, base)),
                    Saved::Udp(_) | Saved::Search(_) => None,
                });
                let Some((base_path, base)) = base else {
                    continue;
                };
                let base =
                    SavedRuns::new(base_path, &base.meta, &base.runs).with_curves(&base.curves);
                let new = SavedRuns::new(path, &new.meta, &new.runs).with_curves(&new.curves);
                keep(compare_records(&base, &new).map(Comparison::Proxy));
            }
        }
    }
    (comparisons, notes)
}

/// The name of the record's folder, or of its file.
fn id(path: &Path) -> String {
    let folder = match path.file_name() {
        Some(name) if name == "run.json" => path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty()),
        _ => Some(path),
    };
    let named = folder.and_then(|folder| folder.canonicalize().ok());
    let name = named.as_deref().and_then(Path::file_name);
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn default_path(paths: &[PathBuf]) -> PathBuf {
    let first = paths
        .first()
        .map(PathBuf::as_path)
        .unwrap_or(Path::new("."));
    match first.is_dir() {
        true => first.join("report.html"),
        false => first.with_file_name("report.html"),
    }
}
