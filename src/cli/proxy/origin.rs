//! `bench proxy origin`: prints what clients say, and answers.

use std::io::{self, Write};

use super::args::Origin as Args;
use super::{cannot_listen, printable, say_listening};
use crate::cli::failure::Failure;
use crate::cli::interrupt;
use crate::load::origin::Origin;
use crate::sys::rlimit;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let _ = rlimit::raise_open_files();
    let origin = Origin::bind(&args.listen)
        .map_err(|error| cannot_listen(&args.listen, "--listen", &error))?;
    let waker = origin.waker();
    interrupt::on_signal_or_hangup(move || drop(waker.wake())).map_err(Failure::undone)?;
    let mut out = io::stdout();
    say_listening(origin.local(), &mut out)?;
    origin
        .run(|from, message| {
            if !args.quiet {
                // Whoever reads our output may go; the answers go on.
                let _ = writeln!(out, "{from}: {}", printable(message));
            }
        })
        .map_err(|error| Failure::Undone(format!("the server's event loop failed: {error}")))
}
