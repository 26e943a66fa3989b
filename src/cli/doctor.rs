//! `bench doctor`: reports what this kernel, user and machine support, and how to lift limits.

use std::io::{self, Write};

use super::args::Doctor;
use super::error::CliError;
use super::interrupt;
use super::sink::Sink;
use crate::doctor;
use crate::report::findings::Findings;
use crate::report::record::{Host, SCHEMA};
use crate::report::{dates, json, text};
use crate::sys::clock;
use crate::udp::setup::DEFAULT_BUFFER;

/// Findings are not errors while one engine can measure.
pub(super) fn run(args: &Doctor) -> Result<(), CliError> {
    interrupt::exit_on_signal().map_err(CliError::runtime)?;
    let json = args.json.as_deref();
    let json = json.map(|path| Sink::open(path, "--json")).transpose()?;
    let findings = Findings {
        schema: SCHEMA,
        kind: "doctor",
        wirebench: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: dates::rfc3339(clock::realtime_ns()),
        command: super::command_line(),
        host: Host::here(),
        checks: doctor::checks(DEFAULT_BUFFER),
    };
    if !matches!(json, Some(Sink::Stdout)) {
        let mut out = io::stdout().lock();
        text::findings(&findings, &mut out)?;
        out.flush()?;
    }
    if let Some(sink) = json {
        sink.write(|out| json::write(&findings, out))?;
    }
    doctor::enough_for_mio(&findings.checks)
        .map_err(|reason| CliError::Runtime(format!("cannot measure on this host: {reason}")))
}
