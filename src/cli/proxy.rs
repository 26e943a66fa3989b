//! `bench proxy` ([`run`](mod@run)) and its roles, a file each.

pub(super) mod args;
mod child;
mod load;
mod log;
mod monitor;
mod origin;
mod output;
mod reload;
mod run;
mod send;
mod serve;
mod signals;
mod summary;
mod user;

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};

use super::failure::Failure;
use crate::sys::endpoint::Endpoint;
use args::{Proxy, Role};

pub(super) fn run(args: &Proxy) -> Result<(), Failure> {
    match &args.role {
        None => run::run(&args.own, &args.load),
        Some(Role::Load(args)) => load::run(args),
        Some(Role::Serve(args)) => serve::run(args),
        Some(Role::Origin(args)) => origin::run(args),
        Some(Role::Send(args)) => send::run(args),
    }
}

/// Why a listener could not be had, and the way out.
fn cannot_listen(place: &Endpoint, option: &str, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::AddrInUse if place.ip().is_none() => {
            "; somebody listens there, or it is another kind of file; choose another path"
        }
        ErrorKind::AddrInUse => {
            &*format!("; choose another port with {option}, or 0 to let the kernel choose")
        }
        ErrorKind::AddrNotAvailable => "; that address is not of this host",
        ErrorKind::PermissionDenied if place.ip().is_some() => "; choose a port from 1024 up",
        _ => "",
    };
    Failure::Undone(format!("cannot listen on {place}: {error}{advice}"))
}

fn say_listening(local: &Endpoint, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "listening on {local}")?;
    out.flush()
}

/// Words from outside as a line that does nothing to a terminal.
fn printable(message: &[u8]) -> String {
    let mut line = String::with_capacity(message.len());
    for letter in String::from_utf8_lossy(message).chars() {
        if letter.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_on_a_line_whatever_is_in_it() {
        assert_eq!(printable("grüß \"dich\"".as_bytes()), "grüß \"dich\"");
        assert_eq!(
            printable(b"a\r\nb\x1b[31m\x00"),
            "a\\r\\nb\\u{1b}[31m\\u{0}"
        );
        assert_eq!(printable(b"\xff!"), "\u{fffd}!");
    }
}
