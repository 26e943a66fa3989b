//! `bench doctor`: what this kernel, user and machine allow, and what lifts what they do not.

use std::io::{self, Write};

use super::args::Doctor;
use super::failure::Failure;
use super::interrupt;
use super::sink::Sink;
use crate::engine::probe;
use crate::report::export::{json, text};
use crate::report::model::{DoctorReport, Meta};
use crate::sys::clock;
use crate::udp::setup::DEFAULT_BUFFER;

/// Shortfalls are no failure, as long as there is an engine to measure with.
pub(super) fn run(args: &Doctor) -> Result<(), Failure> {
    interrupt::tidily().map_err(Failure::undone)?;
    let json = args.json.as_deref();
    let json = json.map(|path| Sink::open(path, "--json")).transpose()?;
    let report = DoctorReport {
        meta: Meta::here("doctor", clock::realtime_ns(), super::command_line()),
        checks: probe::checks(DEFAULT_BUFFER),
    };
    if !matches!(json, Some(Sink::Stdout)) {
        let mut out = io::stdout().lock();
        text::doctor(&report, &mut out)?;
        out.flush()?;
    }
    if let Some(sink) = json {
        sink.write(|out| json::write(&report, out))?;
    }
    probe::enough_for_mio(&report.checks)
        .map_err(|reason| Failure::Undone(format!("nothing can be measured here: {reason}")))
}
