//! `bench proxy origin`: the origin server. Prints received messages.

use std::io::{self, Write};

use super::args::Origin as Args;
use super::{cannot_listen, print_listening, printable};
use crate::cli::error::CliError;
use crate::cli::interrupt;
use crate::load::origin::Origin;
use crate::sys::rlimit;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let _ = rlimit::raise_open_files();
    let origin = Origin::bind(&args.listen)
        .map_err(|error| cannot_listen(&args.listen, "--listen", &error))?;
    let waker = origin.waker();
    interrupt::on_signal_or_hangup(move || drop(waker.wake())).map_err(CliError::runtime)?;
    let mut out = io::stdout();
    print_listening(origin.local(), &mut out)?;
    origin
        .run(|from, message| {
            if !args.quiet {
                // A closed stdout does not end the server.
                let _ = writeln!(out, "{from}: {}", printable(message));
            }
        })
        .map_err(|error| CliError::Runtime(format!("the server's event loop failed: {error}")))
}
