//! `bench compare`: two saved runs side by side, and whether the new one is slower.

use std::io::{self, Write};
use std::path::Path;

use super::args::Compare;
use super::failure::Failure;
use super::sink::Sink;
use crate::report::comparison::between;
use crate::report::comparison::gate::{self, Gate};
use crate::report::record::Record;
use crate::report::{json, text};
use crate::stats::ratio::FEWEST;

pub(super) fn run(args: &Compare) -> Result<(), Failure> {
    let sink = args
        .json
        .as_deref()
        .map(|path| Sink::open(path, "--json"))
        .transpose()?;
    let (base, new) = (read(&args.base)?, read(&args.new)?);
    let found =
        between::between((&args.base, &base), (&args.new, &new)).map_err(Failure::undone)?;
    if !matches!(sink, Some(Sink::Stdout)) {
        let mut out = io::stdout().lock();
        text::between(&found, &mut out)?;
        out.flush()?;
    }
    if let Some(sink) = sink {
        sink.write(|out| json::write(&found, out))?;
    }
    match args.threshold {
        Some(percent) => judged(&gate::judge(&found.comparison, percent / 100.0), percent),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Record, Failure> {
    json::read(path).map_err(Failure::undone)
}

/// What a gate comes to. One that cannot tell has not been passed, and has not failed either.
fn judged(gate: &Gate, percent: f64) -> Result<(), Failure> {
    if !gate.regressed.is_empty() {
        return Err(Failure::Gate(format!(
            "{}: more than the threshold of {percent} %",
            gate.regressed.join("; ")
        )));
    }
    if !gate.undecided.is_empty() {
        return Err(Failure::Undone(format!(
            "too few runs to tell whether {} is slower by more than {percent} %; measure both with --repeat {FEWEST} or more",
            gate.undecided.join("; ")
        )));
    }
    Ok(())
}
