//! `bench doctor`: reports what this kernel, user and machine support, and how to lift limits.

use std::io::{self, Write};

use super::args::Doctor;
use super::error::CliError;
use super::interrupt;
use super::sink::Sink;
use crate::doctor;
use crate::doctor::fitness::fitness;
use crate::report::export::{json, text};
use crate::report::model::{DoctorReport, Meta};
use crate::sys::clock;
use crate::udp::setup::DEFAULT_BUFFER;

/// Findings are not errors while one engine can measure.
pub(super) fn run(args: &Doctor) -> Result<(), CliError> {
    interrupt::exit_on_signal().map_err(CliError::runtime)?;
    let json = args.json.as_deref();
    let json = json.map(|path| Sink::open(path, "--json")).transpose()?;
    let checks = doctor::checks(DEFAULT_BUFFER);
    let report = DoctorReport {
        meta: Meta::here("doctor", clock::realtime_ns(), super::command_line()),
        comparing: fitness(&checks),
        checks,
    };
    if !matches!(json, Some(Sink::Stdout)) {
        let mut out = io::stdout().lock();
        text::doctor(&report, &mut out)?;
        out.flush()?;
    }
    if let Some(sink) = json {
        sink.write(|out| json::write(&report, out))?;
    }
    doctor::enough_for_mio(&report.checks)
        .map_err(|reason| CliError::Runtime(format!("cannot measure on this host: {reason}")))
}
