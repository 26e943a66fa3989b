//! `bench proxy send`: one message through a proxy, and the answer as it is.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::args::Send as Args;
use super::printable;
use crate::cli::failure::Failure;
use crate::load::send::{SendError, send};

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.proxy.ip().is_some_and(|address| address.port() == 0) {
        return Err(Failure::usage(format!(
            "nobody can be reached at {}: its port is 0; name the proxy's with --proxy ADDR:PORT",
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
    // So that the shell's prompt, or the sentence on what went wrong, gets a line of its own. A file or a pipe gets the answer.
    if last != b'\n' && out.is_terminal() {
        out.write_all(b"\n")?;
    }
    outcome.map_err(failure)
}

fn failure(error: SendError) -> Failure {
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
        SendError::Refused { .. } | SendError::Silent(_) | SendError::Broken(..) => "",
    };
    // The proxy's words are not ours: nothing in them is to reach a terminal as more than letters.
    let sentence = printable(format!("{error}{advice}").as_bytes());
    match error {
        SendError::Refused { .. } => Failure::Gate(sentence),
        SendError::Output(error) => error.into(),
        _ => Failure::Undone(sentence),
    }
}
