//! `bench compare`: compares two saved runs and checks a threshold.

use std::io::{self, StdoutLock, Write};
use std::path::Path;

use serde::Serialize;

use super::args::Compare;
use super::error::CliError;
use super::interrupt;
use super::sink::Sink;
use crate::report::comparison::between::{Between, between};
use crate::report::comparison::gate::{self, Gate};
use crate::report::comparison::{Comparable, Row};
use crate::report::json::{self, Saved};
use crate::report::record::Record;
use crate::report::{proxy, text};
use crate::stats::ratio::FEWEST;

pub(super) fn run(args: &Compare) -> Result<(), CliError> {
    interrupt::exit_on_signal().map_err(CliError::runtime)?;
    let sink = args
        .json
        .as_deref()
        .map(|path| Sink::open(path, "--json"))
        .transpose()?;
    match (read(&args.base)?, read(&args.new)?) {
        (Saved::Udp(base), Saved::Udp(new)) => {
            let found = found(args, &base, &new)?;
            report(args, sink, &found, |out| text::between(&found, out))
        }
        (Saved::Proxy(base), Saved::Proxy(new)) => {
            let found = found(args, &base.frame, &new.frame)?;
            report(args, sink, &found, |out| proxy::text::between(&found, out))
        }
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
    json::read(path).map_err(CliError::runtime)
}

fn found<R: Comparable, C>(
    args: &Compare,
    base: &Record<R, C>,
    new: &Record<R, C>,
) -> Result<Between<R::Row>, CliError> {
    between((&args.base, base), (&args.new, new)).map_err(CliError::runtime)
}

/// Prints and writes the comparison, then checks the threshold.
fn report<C: Row + Serialize>(
    args: &Compare,
    sink: Option<Sink>,
    found: &Between<C>,
    shown: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>,
) -> Result<(), CliError> {
    if !matches!(sink, Some(Sink::Stdout)) {
        let mut out = io::stdout().lock();
        shown(&mut out)?;
        out.flush()?;
    }
    if let Some(sink) = sink {
        sink.write(|out| json::write(found, out))?;
    }
    match args.threshold {
        Some(percent) => check(&gate::judge(&found.comparison, percent / 100.0), percent),
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
    failed.extend(gate.broken.iter().cloned());
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
