//! The command line. `args` defines the options; each command turns them into a validated plan, runs it and prints the result.
//! No other module prints or exits.

mod args;
mod blocklist;
mod compare;
mod completions;
mod doctor;
mod during;
mod endpoint;
mod error;
mod exports;
mod fleet;
mod interrupt;
mod list;
mod live;
mod man;
mod merge;
mod parse;
mod progress;
mod proxy;
mod report;
mod saving;
mod serve;
mod sink;
mod stdout;
mod text_out;
mod udp;

use std::process::ExitCode;

use args::{Blocklist, Command};

/// Runs the command line. Returns exit code 0 (done), 1 (a check failed), 2 (bad usage) or 3 (the run could not be done).
pub fn run() -> ExitCode {
    error::detect_json_output(std::env::args_os());
    let bench = match args::parse() {
        Ok(bench) => bench,
        Err(error) => return error::report_clap(&error),
    };
    let outcome = match bench.command {
        Command::Udp(args) => udp::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Blocklist(Blocklist::Check(args)) => blocklist::check(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The command line for records, without passwords.
fn command_line() -> Vec<String> {
    without_passwords(std::env::args_os().map(|word| word.to_string_lossy().into_owned()))
}

fn without_passwords(words: impl Iterator<Item = String>) -> Vec<String> {
    const OPTION: &str = "--password";
    let mut is_password = false;
    words
        .map(|word| match word.strip_prefix(OPTION) {
            _ if std::mem::take(&mut is_password) => "***".to_owned(),
            Some("") => {
                is_password = true;
                word
            }
            Some(rest) if rest.starts_with('=') => format!("{OPTION}=***"),
            _ => without_credentials(word),
        })
        .collect()
}

/// Hides the user and the password of a URL.
fn without_credentials(word: String) -> String {
    let url = word.split_once("://");
    match url.and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, at))) => format!("{scheme}://***@{at}"),
        None => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_contain_no_password() {
        for (line, recorded) in [
            (
                "bench proxy --password x --quiet",
                "bench proxy --password *** --quiet",
            ),
            (
                "bench proxy --password=x --quiet",
                "bench proxy --password=*** --quiet",
            ),
            (
                "bench proxy --password --password",
                "bench proxy --password ***",
            ),
            (
                "bench proxy --password-file f",
                "bench proxy --password-file f",
            ),
            ("bench proxy --password", "bench proxy --password"),
            (
                "bench udp --via socks5://ann:a@b@[::1]:1080",
                "bench udp --via socks5://***@[::1]:1080",
            ),
            (
                "bench udp --via=udp://[::1]:1080",
                "bench udp --via=udp://[::1]:1080",
            ),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(without_passwords(words).join(" "), recorded);
        }
    }
}
