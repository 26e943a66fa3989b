//! `--log`: opens and closes the proxy's access log.

use std::path::Path;
use std::time::Duration;

use crate::cli::error::{CliError, print_line};
use crate::proxy::access_log::{Log, Target};
use crate::units::grouped;

/// `--log -`: standard output.
pub(super) const STDOUT: &str = "-";

/// How long the last lines may take to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn open(path: &Path) -> Result<Log, CliError> {
    let target = if path == Path::new(STDOUT) {
        Target::Stdout
    } else {
        Target::File(path.to_owned())
    };
    Log::open(&target, |error| print_line(&error.to_string())).map_err(|error| {
        CliError::Runtime(format!(
            "cannot open the access log {}: {error}; choose another file with --log",
            path.display()
        ))
    })
}

pub(super) fn finish(log: Log) {
    let handle = log.handle();
    if !log.finish(FLUSH_TIMEOUT) {
        print_line("the access log is no longer read; its last lines are lost");
    }
    match handle.dropped() {
        0 => {}
        1 => print_line("1 connection or flow is missing in the access log"),
        many => print_line(&format!(
            "{} connections or flows are missing in the access log",
            grouped(many)
        )),
    }
}
