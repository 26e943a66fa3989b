//! The program `bench`: runs [`wirebench::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    wirebench::cli::run()
}
