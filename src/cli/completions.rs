//! `bench completions`: the completion script of a shell.

use std::io::{self, Write};

use clap::CommandFactory;

use super::args::{Bench, Completions};
use super::error::CliError;

pub(super) fn run(args: &Completions) -> Result<(), CliError> {
    // clap_complete panics if a write fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Bench::command(), "bench", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
