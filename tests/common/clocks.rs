//! Time namespaces: the clocks of another host.

use std::process::Command;

/// A command for `bench` with clocks that are this many seconds ahead of those of this host. `None` with a printed reason if the
/// system permits no time namespaces.
pub(crate) fn bench_ahead(seconds: &str) -> Option<Command> {
    let command = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-T", "--kill-child", "--monotonic", seconds]);
        command.args(["--boottime", seconds, program]);
        command
    };
    if !command("true")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        println!("skipped: clocks of another host: no time namespaces");
        return None;
    }
    Some(command(env!("CARGO_BIN_EXE_bench")))
}
