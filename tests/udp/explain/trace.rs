//! The trace of the kernel: removed at the end of a program, and absent without privilege.

use super::*;

/// Names of the trace instances of a process; `None` if tracefs cannot be mounted.
fn instances(process: u32) -> Option<Vec<String>> {
    let command =
        "mount -t tracefs tracefs /sys/kernel/tracing && ls /sys/kernel/tracing/instances";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", command])
        .output()
        .ok()?;
    let text = output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())?;
    let prefix = format!("wirebench-{process}-");
    let names = text.lines().filter(|name| name.starts_with(&prefix));
    Some(names.map(str::to_owned).collect())
}

#[test]
fn the_trace_is_removed_at_the_end_and_when_the_program_is_killed() {
    if instances(0).is_none() {
        return println!("skipped: tracefs cannot be mounted here");
    }
    for signal in ["KILL", "INT"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        let options = "udp --explain --pps 1000 --duration 10s --interval 100ms --no-save";
        command.args(options.split_whitespace());
        let mut running = Running::new(command);
        running.first_row();
        let process = running.id();
        assert_eq!(instances(process).unwrap().len(), 1);
        running.signal(signal);
        until("the instance is removed", || {
            instances(process).unwrap().is_empty()
        });
    }
}

#[test]
fn the_trace_of_a_server_is_removed_at_its_end_and_when_it_is_killed() {
    if instances(0).is_none() {
        return println!("skipped: tracefs cannot be mounted here");
    }
    for signal in ["KILL", "INT"] {
        let server = Serve::start(&[]);
        // A client that traces nothing, as on another host.
        let mut client = Control::connect(server.address);
        let Request::Hello(mut hello) = peer::hello(peer::plan(5)) else {
            unreachable!()
        };
        hello.explain = Some(ExplainRequest::default());
        client.send(&Request::Hello(hello));
        let process = server.program.id();
        until("the server traces", || {
            instances(process).unwrap().len() == 1
        });
        server.program.signal(signal);
        until("the instance is removed", || {
            instances(process).unwrap().is_empty()
        });
    }
}

#[test]
fn without_privilege_the_counters_explain_losses_and_the_reasons_are_unknown() {
    let Ok(copy) = tempfile::tempdir() else {
        return;
    };
    let program = copy.path().join("bench");
    std::fs::copy(env!("CARGO_BIN_EXE_bench"), &program).unwrap();
    let shared = Command::new("chmod")
        .args(["-R", "755"])
        .arg(copy.path())
        .status();
    assert!(shared.unwrap().success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&program);
    let options =
        "udp --explain --gso off --unpaced --packets 20000 --rcvbuf 4096 --no-save --json -";
    command.args(options.split_whitespace());
    let Ok(output) = command.output() else {
        return println!("skipped: there is no setpriv");
    };
    if !output.status.success() {
        return println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
    }
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &record["runs"][0];
    let explained = &run["explained"];
    assert_eq!(explained["sender"]["traced"], false);
    assert!(
        explained["notes"]
            .to_string()
            .contains("reasons are unknown"),
        "{explained:#}"
    );
    // Other tests in this namespace have drops of their own.
    let socket = cause(run, "receiver_socket").unwrap();
    assert_eq!(
        number(socket, "datagrams"),
        number(run, "engine_stats.receiver_socket_drops")
    );
}
