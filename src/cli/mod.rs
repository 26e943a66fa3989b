//! The command line: `args` are turned into validated plans, which `udp`, `serve`, `proxy`, `blocklist`,
//! `compare` and `doctor` carry out and show. Nothing below this module prints or exits.

mod args;
mod blocklist;
mod compare;
mod doctor;
mod endpoint;
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

/// The command line, for the record.
fn command_line() -> Vec<String> {
    std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
