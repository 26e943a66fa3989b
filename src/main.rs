//! The program `bench`. All of it is in the library; this hands over the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    wirebench::cli::run()
}
