//! `bench compare`: two saved runs side by side, and whether the new one is slower.

use std::io::{self, StdoutLock, Write};
use std::path::Path;

use serde::Serialize;

use super::args::Compare;
use super::failure::Failure;
use super::interrupt;
use super::sink::Sink;
use crate::report::comparison::between::{Between, between};
use crate::report::comparison::gate::{self, Gate};
use crate::report::comparison::{Comparable, Row};
use crate::report::json::{self, Saved};
use crate::report::record::Record;
use crate::report::{proxy, text};
use crate::stats::ratio::FEWEST;

pub(super) fn run(args: &Compare) -> Result<(), Failure> {
    interrupt::tidily().map_err(Failure::undone)?;
    let sink = args
        .json
        .as_deref()
        .map(|path| Sink::open(path, "--json"))
        .transpose()?;
    match (read(&args.base)?, read(&args.new)?) {
        (Saved::Udp(base), Saved::Udp(new)) => {
            let found = found(args, &base, &new)?;
            told(args, sink, &found, |out| text::between(&found, out))
        }
        (Saved::Proxy(base), Saved::Proxy(new)) => {
            let found = found(args, &base.frame, &new.frame)?;
            told(args, sink, &found, |out| proxy::text::between(&found, out))
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
    json::read(path).map_err(Failure::undone)
}

fn found<R: Comparable, C>(
    args: &Compare,
    base: &Record<R, C>,
    new: &Record<R, C>,
) -> Result<Between<R::Row>, Failure> {
    between((&args.base, base), (&args.new, new)).map_err(Failure::undone)
}

/// Gives it out, and says what the threshold comes to.
fn told<C: Row + Serialize>(
    args: &Compare,
    sink: Option<Sink>,
    found: &Between<C>,
    shown: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>,
) -> Result<(), Failure> {
    if !matches!(sink, Some(Sink::Stdout)) {
        let mut out = io::stdout().lock();
        shown(&mut out)?;
        out.flush()?;
    }
    if let Some(sink) = sink {
        sink.write(|out| json::write(found, out))?;
    }
    match args.threshold {
        Some(percent) => judged(&gate::judge(&found.comparison, percent / 100.0), percent),
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
    failed.extend(gate.broken.iter().cloned());
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
