//! `bench doctor`: what this kernel, user and machine allow, and what lifts what they do not.

use std::io::{self, Write};

use super::args::Doctor;
use super::failure::Failure;
use super::interrupt;
use super::sink::Sink;
use crate::doctor;
use crate::report::findings::Findings;
use crate::report::record::{Host, SCHEMA};
use crate::report::{dates, json, text};
use crate::sys::clock;
use crate::udp::setup::DEFAULT_BUFFER;

/// Shortfalls are no failure, as long as there is an engine to measure with.
pub(super) fn run(args: &Doctor) -> Result<(), Failure> {
    interrupt::tidily().map_err(Failure::undone)?;
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
        .map_err(|reason| Failure::Undone(format!("nothing can be measured here: {reason}")))
}
