//! Errors of commands: one sentence on stderr, the exit code, and an object on stdout with `--json -`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use clap::error::ErrorKind;
use serde::Serialize;

use super::stdout;
use crate::report::export::json;
use crate::report::export::json_stream::Line;
use crate::report::figures::plain;
use crate::report::model::SCHEMA;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum CliError {
    /// The command completed and a check failed: exit 1.
    CheckFailed(String),
    /// The command line is invalid: exit 2.
    Usage(String),
    /// The run could not be done, or not to its end: exit 3.
    Runtime(String),
    /// stdout was closed (EPIPE): exit 0.
    BrokenPipe,
}

impl CliError {
    pub(super) fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }

    pub(super) fn runtime(error: impl ToString) -> Self {
        Self::Runtime(error.to_string())
    }

    /// Turns a runtime error into a usage error.
    pub(super) fn into_usage(self) -> Self {
        match self {
            Self::Runtime(sentence) => Self::Usage(sentence),
            other => other,
        }
    }

    /// The result of two steps: the first error, but a closed stdout only if there is no other error.
    pub(super) fn first(one: Result<(), Self>, other: Result<(), Self>) -> Result<(), Self> {
        match one {
            Err(Self::BrokenPipe) => other.and(Err(Self::BrokenPipe)),
            one => one.and(other),
        }
    }

    /// Prints the error and returns its exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::CheckFailed(sentence) => print(&sentence, 1),
            Self::Usage(sentence) => print(&sentence, 2),
            Self::Runtime(sentence) => print(&sentence, 3),
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }
}

/// An error of a write to stdout.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Runtime(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Prints a line to stderr, without control characters: some sentences have texts of another host, which must not control the terminal.
/// A closed stderr is ignored.
pub(super) fn print_line(sentence: &str) {
    // One write, because other threads print too.
    let _ = io::stderr().write_all(line(sentence).as_bytes());
}

fn line(sentence: &str) -> String {
    // Some errors are several lines.
    let lines: Vec<_> = sentence.split('\n').map(plain).collect();
    format!("bench: {}\n", lines.join("\n"))
}

fn print(sentence: &str, code: u8) -> ExitCode {
    let notes = unchanged().map(|note| format!("; {note}"));
    print_line(&format!("{sentence}{}", notes.collect::<String>()));
    print_json(sentence, i32::from(code));
    ExitCode::from(code)
}

/// The exit code and the sentence of an error; `None` for a closed stdout.
pub(super) fn exit_and_message(error: &CliError) -> Option<(i32, &str)> {
    match error {
        CliError::CheckFailed(sentence) => Some((1, sentence)),
        CliError::Usage(sentence) => Some((2, sentence)),
        CliError::Runtime(sentence) => Some((3, sentence)),
        CliError::BrokenPipe => None,
    }
}

/// Prints the JSON error of a program that a signal ends with exit code `code`.
pub(super) fn report_signal(code: i32) {
    print_json("ended by a signal before the run was reported", code);
}

/// Prints help and version on stdout, and other messages of clap on stderr with exit 2.
pub(super) fn report_clap(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if !matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        unchanged().for_each(|note| print_line(&note));
        print_json(&first_paragraph(&error.to_string()), i32::from(code));
    }
    ExitCode::from(code)
}

/// clap's message without its usage hints.
fn first_paragraph(text: &str) -> String {
    let paragraph = text.trim_start_matches("error: ").split("\n\n").next();
    let words = paragraph.unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// Whether errors are printed as JSON on stdout.
static JSON_OUTPUT: AtomicBool = AtomicBool::new(false);

/// Whether errors are printed as JSON lines on stdout.
static JSON_LINES: AtomicBool = AtomicBool::new(false);

/// Options that write a document to a path.
const DOCUMENTS: [&str; 9] = [
    "--json",
    "--csv",
    "--markdown",
    "--html",
    "--svg",
    "--openmetrics",
    "--prometheus",
    "--hlog",
    "--iperf3-json",
];

/// Age above which a document is of an earlier command. The stamps of files may be some ms late.
const OLD: Duration = Duration::from_millis(20);

/// The paths of the documents, and the start of this command.
static DOCUMENT_PATHS: OnceLock<(Vec<PathBuf>, SystemTime)> = OnceLock::new();

/// A note on each document that this command did not write: without it the document would look like the command's own.
fn unchanged() -> impl Iterator<Item = String> {
    let (paths, started) = DOCUMENT_PATHS
        .get()
        .map(|(paths, at)| (&paths[..], *at))
        .unzip();
    let is_old = move |path: &&PathBuf| {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file);
        let age = metadata.and_then(|of| started?.duration_since(of.modified().ok()?).ok());
        age.is_some_and(|age| age > OLD)
    };
    let old = paths.unwrap_or_default().iter().filter(is_old);
    old.map(|path| {
        let path = path.display();
        format!("{path} is unchanged and of an earlier command")
    })
}

/// The values of [`DOCUMENTS`].
fn document_paths(words: &[OsString]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut words = words.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        match text.split_once('=') {
            Some((option, path)) if DOCUMENTS.contains(&option) => paths.push(path.into()),
            None if DOCUMENTS.contains(&&*text) => paths.extend(words.next().map(PathBuf::from)),
            _ => {}
        }
    }
    paths
}

/// Detects `--json -` and `--json-stream -` before the arguments are parsed, because a parse error is reported as JSON too.
pub(super) fn detect_json_output(words: impl Iterator<Item = OsString>) {
    let words: Vec<OsString> = words.collect();
    let _ = DOCUMENT_PATHS.set((document_paths(&words), SystemTime::now()));
    JSON_OUTPUT.store(wants(&words, "--json"), Ordering::Relaxed);
    JSON_LINES.store(wants(&words, "--json-stream"), Ordering::Relaxed);
}

/// Whether `option` names stdout.
fn wants(words: &[OsString], option: &str) -> bool {
    let mut words = words.iter().take_while(|word| *word != "--");
    let joined = format!("{option}=-");
    while let Some(word) = words.next() {
        if *word == *joined || (word == option && words.next().is_some_and(|path| path == "-")) {
            return true;
        }
    }
    false
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    exit: i32,
    message: &'a str,
}

/// Prints the error as a line, or as a document unless stdout already has one.
fn print_json(message: &str, exit: i32) {
    if JSON_LINES.load(Ordering::Relaxed) {
        // A closed stdout is ignored.
        let _ = Line::Error { exit, message }.write(&mut io::stdout().lock());
        return;
    }
    if !JSON_OUTPUT.load(Ordering::Relaxed) || !stdout::take() {
        return;
    }
    let document = Document {
        schema: SCHEMA,
        error: ErrorObject { exit, message },
    };
    // A closed stdout is ignored.
    let _ = json::write(&document, io::stdout().lock());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_another_host_controls_the_terminal() {
        let escape = line("the run is incomplete: \x1b[2J\u{9b}1mnonsense\r");
        assert_eq!(escape, "bench: the run is incomplete: ?[2J?1mnonsense?\n");
        assert_eq!(line("one\nbench: two\u{7}"), "bench: one\nbench: two?\n");
    }

    #[test]
    fn json_on_stdout_is_detected_in_the_arguments() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let wants = |line: &str| super::wants(&words(line), "--json");
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
            "bench udp --json-stream -",
        ] {
            assert!(!wants(line), "{line}");
        }
        let line = words("bench udp --json-stream -");
        assert!(super::wants(&line, "--json-stream"));
    }

    #[test]
    fn paths_of_documents_are_found_in_the_arguments() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let paths = |line: &str| document_paths(&words(line));
        let found = paths("bench udp --json a --csv=b --out c --html - -- --svg d");
        assert_eq!(found, ["a", "b", "-"].map(PathBuf::from));
        assert!(paths("bench udp --json").is_empty());
    }

    #[test]
    fn claps_message_is_cut_before_its_usage_hint() {
        assert_eq!(
            first_paragraph(
                "error: invalid value 'x' for '--mb <N>': 'x' is no\nnumber\n\nFor more information, try '--help'.\n"
            ),
            "invalid value 'x' for '--mb <N>': 'x' is no number"
        );
        assert_eq!(first_paragraph(""), "");
    }
}
