//! `bench proxy send`: sends one message through a proxy and prints the answer.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::args::Send as Args;
use super::printable;
use crate::cli::error::CliError;
use crate::load::send::{SendError, send};

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.proxy.ip().is_some_and(|address| address.port() == 0) {
        return Err(CliError::usage(format!(
            "cannot connect to {}: port 0; name the proxy's port with --proxy ADDR:PORT",
            args.proxy
        )));
    }
    let mut out = io::stdout().lock();
    let mut last = b'\n';
    let outcome = send(
        &args.proxy,
        &args.server,
        &args.text,
        args.timeout,
        |answer| {
            last = answer.last().copied().unwrap_or(last);
            out.write_all(answer)?;
            out.flush()
        },
    );
    // Gives the prompt or the error a line of its own. A file or pipe gets the exact answer.
    if last != b'\n' && out.is_terminal() {
        out.write_all(b"\n")?;
    }
    outcome.map_err(failure)
}

fn failure(error: SendError) -> CliError {
    let advice = match &error {
        SendError::Output(_) => "",
        SendError::Connect(_, error) => match error.kind() {
            ErrorKind::ConnectionRefused => {
                "; start one there with bench proxy serve, or name another with --proxy"
            }
            ErrorKind::TimedOut => "; give it longer with --timeout, or name another with --proxy",
            _ => "; name another with --proxy",
        },
        SendError::TimedOut(..) => "; give it longer with --timeout",
        SendError::Refused { .. } | SendError::NoAnswer(_) | SendError::Broken(..) => "",
    };
    // The proxy's message is untrusted: control characters must not reach the terminal.
    let sentence = printable(format!("{error}{advice}").as_bytes());
    match error {
        SendError::Refused { .. } => CliError::CheckFailed(sentence),
        SendError::Output(error) => error.into(),
        _ => CliError::Runtime(sentence),
    }
}
