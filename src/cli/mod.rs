//! The command line: `args` are turned into validated plans, which `udp`, `serve`, `proxy`, `blocklist`,
//! `compare` and `doctor` carry out and show. Nothing below this module prints or exits.

mod args;
mod blocklist;
mod compare;
mod doctor;
mod endpoint;
mod exports;
mod failure;
mod interrupt;
mod list;
mod progress;
mod proxy;
mod serve;
mod sink;
mod udp;

use std::process::ExitCode;

use args::{Blocklist, Command};

/// Does what the command line says, and tells how it went: 0 done, 1 a gate failed, 2 bad usage,
/// 3 the run could not be done.
pub fn run() -> ExitCode {
    failure::look_for_json(std::env::args_os());
    let bench = match args::parse() {
        Ok(bench) => bench,
        Err(error) => return failure::of_clap(&error),
    };
    let outcome = match bench.command {
        Command::Udp(args) => udp::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Blocklist(Blocklist::Check(args)) => blocklist::check(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The command line, for the record: without passwords, as records are given to others.
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
            _ => word,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_record() {
        for (line, told) in [
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
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(without_passwords(words).join(" "), told);
        }
    }
}
