//! `bench compare`: compares two saved records, and checks whether the new one is slower.

use std::io::{self, Write};
use std::path::Path;

use super::args::Compare;
use super::exports::Exports;
use super::failure::Failure;
use super::interrupt;
use crate::report::compare::Compared;
use crate::report::compare::gate::{self, Gate};
use crate::report::compare::records::{SavedRuns, compare_records};
use crate::report::export::text::Text;
use crate::report::export::{Document, Exporter};
use crate::report::store::saved::{self, Saved};
use crate::stats::ratio::FEWEST;

pub(super) fn run(args: &Compare) -> Result<(), Failure> {
    interrupt::tidily().map_err(Failure::undone)?;
    let exports = args.exports.open()?;
    match (read(&args.base)?, read(&args.new)?) {
        (Saved::Udp(base), Saved::Udp(new)) => {
            let base = SavedRuns::new(&args.base, &base.meta, &base.runs);
            let new = SavedRuns::new(&args.new, &new.meta, &new.runs);
            let found = compare_records(&base, &new).map_err(Failure::undone)?;
            write(exports, &Document::UdpComparison(&found))?;
            check(args, &found.comparison)
        }
        (Saved::Proxy(base), Saved::Proxy(new)) => {
            let base = SavedRuns::new(&args.base, &base.meta, &base.runs);
            let new = SavedRuns::new(&args.new, &new.meta, &new.runs);
            let found = compare_records(&base, &new).map_err(Failure::undone)?;
            write(exports, &Document::ProxyComparison(&found))?;
            check(args, &found.comparison)
        }
        (base, new) => Err(Failure::Undone(format!(
            "nothing can be compared: {} is a record of kind '{}', {} of kind '{}'; give two of one kind",
            args.base.display(),
            base.kind(),
            args.new.display(),
            new.kind()
        ))),
    }
}

fn read(path: &Path) -> Result<Saved, Failure> {
    saved::read(path).map_err(Failure::undone)
}

fn write(exports: Exports, document: &Document<'_>) -> Result<(), Failure> {
    if !exports.uses_stdout() {
        let mut out = io::stdout().lock();
        Text.write(document, &mut out)?;
        out.flush()?;
    }
    exports.write(document)
}

fn check(args: &Compare, settings: &[impl Compared]) -> Result<(), Failure> {
    match args.threshold {
        Some(percent) => judged(&gate::judge(settings, percent / 100.0), percent),
        None => Ok(()),
    }
}

/// What a gate comes to. One that cannot tell has not been passed, and has not failed either.
fn judged(gate: &Gate, percent: f64) -> Result<(), Failure> {
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
                "but {} is slower too, without a proxy, so the machine may be why: measure both again",
                gate.controls.join(" and ")
            ));
        }
        return Err(Failure::Gate(failed.join("; ")));
    }
    if gate.judged == 0 {
        return Err(Failure::Undone(
            "there is nothing to hold the threshold to: no path through a proxy is in both; compare runs of the same options".to_owned(),
        ));
    }
    if !gate.undecided.is_empty() {
        return Err(Failure::Undone(format!(
            "too few runs to tell whether {} is slower by more than {percent} %; measure both with --repeat {FEWEST} or more",
            gate.undecided.join("; ")
        )));
    }
    Ok(())
}
