//! `bench compare`: compares two saved records and checks a threshold.

use std::io::{self, Write};
use std::path::Path;

use super::args::Compare;
use super::error::CliError;
use super::exports::Exports;
use super::interrupt;
use crate::report::compare::Compared;
use crate::report::compare::gate::{self, Gate};
use crate::report::compare::records::{SavedRuns, compare_records};
use crate::report::export::text::Text;
use crate::report::export::{Document, Exporter};
use crate::report::store::saved::{self, Saved};
use crate::stats::ratio::FEWEST;

pub(super) fn run(args: &Compare) -> Result<(), CliError> {
    interrupt::exit_on_signal().map_err(CliError::runtime)?;
    let exports = args.exports.open()?;
    match (read(&args.base)?, read(&args.new)?) {
        (Saved::Udp(base), Saved::Udp(new)) => {
            let base = SavedRuns::new(&args.base, &base.meta, &base.runs).with_curves(&base.curves);
            let new = SavedRuns::new(&args.new, &new.meta, &new.runs).with_curves(&new.curves);
            let found = compare_records(&base, &new).map_err(CliError::runtime)?;
            write(exports, &Document::UdpComparison(&found))?;
            check_threshold(args, &found.comparison)
        }
        (Saved::Proxy(base), Saved::Proxy(new)) => {
            let base = SavedRuns::new(&args.base, &base.meta, &base.runs).with_curves(&base.curves);
            let new = SavedRuns::new(&args.new, &new.meta, &new.runs).with_curves(&new.curves);
            let found = compare_records(&base, &new).map_err(CliError::runtime)?;
            write(exports, &Document::ProxyComparison(&found))?;
            check_threshold(args, &found.comparison)
        }
        (Saved::Search(_), Saved::Search(_)) => Err(CliError::Runtime(
            "bench compare compares runs and not searches; write both on one page with bench report"
                .to_owned(),
        )),
        (base, new) => Err(CliError::Runtime(format!(
            "expected two records of one kind: {} is of kind '{}', {} of kind '{}'",
            args.base.display(),
            base.kind(),
            args.new.display(),
            new.kind()
        ))),
    }
}

fn read(path: &Path) -> Result<Saved, CliError> {
    saved::read(path).map_err(CliError::runtime)
}

fn write(exports: Exports, document: &Document<'_>) -> Result<(), CliError> {
    if !exports.uses_stdout() {
        let mut out = io::stdout().lock();
        Text.write(document, &mut out)?;
        out.flush()?;
    }
    exports.write(document)
}

fn check_threshold(args: &Compare, settings: &[impl Compared]) -> Result<(), CliError> {
    match args.threshold {
        Some(percent) => check(&gate::judge(settings, percent / 100.0), percent),
        None => Ok(()),
    }
}

/// Too few runs to decide are an error, neither a pass nor a failed check.
fn check(gate: &Gate, percent: f64) -> Result<(), CliError> {
    let mut failed = Vec::new();
    if !gate.regressed.is_empty() {
        failed.push(format!(
            "{}: more than the threshold of {percent} %",
            gate.regressed.join("; ")
        ));
    }
    failed.extend(gate.faults.iter().cloned());
    if !failed.is_empty() {
        if !gate.controls.is_empty() {
            failed.push(format!(
                "but {} is slower too, without a proxy, so the machine may be the cause: measure both again",
                gate.controls.join(" and ")
            ));
        }
        return Err(CliError::CheckFailed(failed.join("; ")));
    }
    if gate.judged == 0 {
        return Err(CliError::Runtime(
            "nothing to compare with the threshold: the records share no path through a proxy; measure both with the same options".to_owned(),
        ));
    }
    if !gate.undecided.is_empty() {
        return Err(CliError::Runtime(format!(
            "too few runs to decide whether {} is slower by more than {percent} %; measure both with --repeat {FEWEST} or more",
            gate.undecided.join("; ")
        )));
    }
    Ok(())
}
