//! `bench proxy origin`: prints what clients say, and answers.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::args::Origin as Args;
use super::{cannot_listen, say_listening};
use crate::cli::failure::Failure;
use crate::cli::interrupt;
use crate::load::origin::Origin;
use crate::sys::limit;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let _ = limit::raise_open_files();
    let origin = Origin::bind(args.listen).map_err(|error| cannot_listen(args.listen, &error))?;
    let waker = origin.waker();
    interrupt::on_signal(move || drop(waker.wake())).map_err(Failure::undone)?;
    say_listening(origin.local())?;
    let mut out = io::stdout();
    origin
        .run(|from, message| {
            if !args.quiet {
                // Whoever reads our output may go; the answers go on.
                let _ = writeln!(out, "{from}: {}", printable(message));
            }
        })
        .map_err(|error| Failure::Undone(format!("the server's event loop failed: {error}")))
}

/// A message as a line that does nothing to a terminal.
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
