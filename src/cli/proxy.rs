//! `bench proxy` ([`run`](mod@run)) and its subcommands, a file each.

pub(super) mod args;
mod associations;
mod child;
mod credentials;
mod datagrams;
mod defaults;
mod fleet;
mod gather;
mod load;
mod log;
mod metrics;
mod origin;
mod output;
pub(super) mod record;
mod reload;
mod run;
mod scenarios;
mod send;
mod serve;
mod signals;
mod summary;
mod udp;

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};

use super::error::CliError;
use crate::load::advice::advice;
use crate::sys::endpoint::Endpoint;
use args::{Proxy, Role};

pub(super) fn run(args: &Proxy) -> Result<(), CliError> {
    match &args.role {
        None => run::run(&args.proxy, &args.load),
        Some(Role::Load(args)) => load::run(args),
        Some(Role::Serve(args)) => serve::run(args),
        Some(Role::Origin(args)) => origin::run(args),
        Some(Role::Send(args)) => send::run(args),
    }
}

/// The error of a failed bind or listen, with advice.
fn cannot_listen(place: &Endpoint, option: &str, error: &io::Error) -> CliError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse if place.ip().is_none() => {
            "; the path belongs to a running server or another kind of file; choose another path"
        }
        ErrorKind::AddrInUse => {
            &*format!("; choose another port with {option}, or 0 to let the kernel choose")
        }
        ErrorKind::AddrNotAvailable => "; that address is not of this host",
        ErrorKind::PermissionDenied if place.ip().is_some() => "; choose a port from 1024 up",
        _ => "",
    };
    CliError::Runtime(format!("cannot listen on {place}: {error}{advice}"))
}

/// An error of this host, with advice if there is any.
fn with_advice(error: &io::Error) -> String {
    match advice(&format!("local: {error}")) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

fn print_listening(local: &Endpoint, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "listening on {local}")?;
    out.flush()
}

/// External bytes as one line without control characters.
fn printable(message: &[u8]) -> String {
    let mut line = String::with_capacity(message.len());
    for character in String::from_utf8_lossy(message).chars() {
        if character.is_control() {
            // Writing to a String does not fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("grüß \"dich\"".as_bytes()), "grüß \"dich\"");
        assert_eq!(
            printable(b"a\r\nb\x1b[31m\x00"),
            "a\\r\\nb\\u{1b}[31m\\u{0}"
        );
        assert_eq!(printable(b"\xff!"), "\u{fffd}!");
    }
}
