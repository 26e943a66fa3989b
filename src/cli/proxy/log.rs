//! `--log`: the proxy's access log, from the option to its end.

use std::path::Path;
use std::time::Duration;

use super::reload::say;
use crate::cli::failure::Failure;
use crate::proxy::access_log::{Log, Target};
use crate::units::grouped;

/// The name of standard output.
pub(super) const STDOUT: &str = "-";

/// How long whoever reads the log has to take its last lines.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn open(path: &Path) -> Result<Log, Failure> {
    let target = if path == Path::new(STDOUT) {
        Target::Stdout
    } else {
        Target::File(path.to_owned())
    };
    Log::open(&target, |trouble| say(&trouble.to_string())).map_err(|error| {
        Failure::Undone(format!(
            "cannot open the access log {}: {error}; choose another file with --log",
            path.display()
        ))
    })
}

pub(super) fn finish(log: Log) {
    let handle = log.handle();
    if !log.finish(PATIENCE) {
        say("nobody takes the access log any more; its last lines are lost");
    }
    match handle.dropped() {
        0 => {}
        1 => say("1 connection is missing in the access log"),
        many => say(&format!(
            "{} connections are missing in the access log",
            grouped(many)
        )),
    }
}
