//! How a command fails: one plain sentence on stderr, the exit code that scripts rely on, and with `--json -` an object
//! on stdout for those who read that.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use serde::Serialize;

use super::sink;
use crate::report::export::json;
use crate::report::model::SCHEMA;

/// Why a command did not do all it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// All was done, and a gate failed: exit 1.
    Gate(String),
    /// The command line asks for what cannot be: exit 2.
    Usage(String),
    /// The run could not be done, or not to its end: exit 3.
    Undone(String),
    /// Whoever read our output went away, which is their right.
    ReaderGone,
}

impl Failure {
    pub(super) fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }

    /// The same as a fault of the command line.
    pub(super) fn into_usage(self) -> Self {
        match self {
            Self::Undone(sentence) => Self::Usage(sentence),
            other => other,
        }
    }

    pub(super) fn undone(error: impl ToString) -> Self {
        Self::Undone(error.to_string())
    }

    /// What came of two steps, the first of which decides; but that nobody reads on is no reason to keep quiet about the second.
    pub(super) fn first(one: Result<(), Self>, other: Result<(), Self>) -> Result<(), Self> {
        match one {
            Err(Self::ReaderGone) => other.and(Err(Self::ReaderGone)),
            one => one.and(other),
        }
    }

    /// Says it, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Gate(sentence) => say(&sentence, 1),
            Self::Usage(sentence) => say(&sentence, 2),
            Self::Undone(sentence) => say(&sentence, 3),
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

/// Of our own output to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Undone(format!("cannot write to standard output: {error}")),
        }
    }
}

fn say(sentence: &str, code: u8) -> ExitCode {
    // Nobody may be there to read it; the exit code still tells.
    let _ = writeln!(io::stderr(), "bench: {sentence}");
    as_json(sentence, i32::from(code));
    ExitCode::from(code)
}

/// Says as JSON, where that is wanted, that the program is ended at once with `code`.
pub(super) fn ended(code: i32) {
    as_json("ended by a signal before the run was reported", code);
}

/// Prints what clap has to say: help and version on stdout, the rest on stderr with exit 2.
pub(super) fn of_clap(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if !matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        as_json(&first_paragraph(&error.to_string()), i32::from(code));
    }
    ExitCode::from(code)
}

/// The sentence without what clap adds on how to call the program.
fn first_paragraph(text: &str) -> String {
    let paragraph = text.trim_start_matches("error: ").split("\n\n").next();
    let words = paragraph.unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a failure is to be told on stdout too.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Learns from the command line whether its JSON goes to stdout: a failure goes there then. Words that do not parse are
/// failures too, so this does not wait for that.
pub(super) fn look_for_json(words: impl Iterator<Item = OsString>) {
    AS_JSON.store(wants_json(words), Ordering::Relaxed);
}

fn wants_json(words: impl Iterator<Item = OsString>) -> bool {
    let mut words = words.take_while(|word| word != "--");
    while let Some(word) = words.next() {
        if word == "--json=-" || (word == "--json" && words.next().is_some_and(|path| path == "-"))
        {
            return true;
        }
    }
    false
}

#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    exit: i32,
    message: &'a str,
}

/// Says it as the one JSON document there is on stdout, unless the record is there already.
fn as_json(message: &str, exit: i32) {
    if !AS_JSON.load(Ordering::Relaxed) || !sink::take_stdout() {
        return;
    }
    let error = Told { exit, message };
    let object = Object {
        schema: SCHEMA,
        error,
    };
    // As for the sentence.
    let _ = json::write(&object, io::stdout().lock());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_on_stdout_is_found_among_the_words() {
        let wants = |line: &str| wants_json(line.split(' ').map(OsString::from));
        for line in [
            "bench udp --json -",
            "bench udp --json=- --mb 0",
            "x --mb -1 --json -",
        ] {
            assert!(wants(line), "{line}");
        }
        for line in [
            "bench udp",
            "bench udp --json",
            "bench udp --json --json=x",
            "bench udp --json a.json -",
            "bench blocklist check a -- --json -",
        ] {
            assert!(!wants(line), "{line}");
        }
    }

    #[test]
    fn the_sentence_of_clap_stands_by_itself() {
        assert_eq!(
            first_paragraph(
                "error: invalid value 'x' for '--mb <N>': 'x' is no\nnumber\n\nFor more information, try '--help'.\n"
            ),
            "invalid value 'x' for '--mb <N>': 'x' is no number"
        );
        assert_eq!(first_paragraph(""), "");
    }
}
