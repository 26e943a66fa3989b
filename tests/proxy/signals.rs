//! `bench proxy serve` and signals: from the start, only signals that are meant to end it do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, PATIENCE, Running, start, until};
use tempfile::TempDir;

on_both_engines!(
    signals_during_the_start_are_not_lost,
    a_starting_program_can_be_ended,
    sigusr1_and_sighup_reopen_the_log,
    sigusr1_without_a_log_does_nothing,
);

/// A proxy that reads a list until the test has written it.
struct Starting {
    folder: TempDir,
    list: File,
    program: Running,
}

impl Starting {
    #[track_caller]
    fn new(engine: Engine, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let fixed = [
            "proxy",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--quiet",
            "--blocklist",
        ];
        let args = fixed.into_iter().chain([path.to_str().unwrap()]);
        let program = start(args.chain(engine.options()).chain(more.iter().copied()));
        // Opens once the other end is open for reading.
        let list = File::options().write(true).open(&path).unwrap();
        Self {
            folder,
            list,
            program,
        }
    }
}

/// A client that is refused, and so has a line in the log.
#[track_caller]
fn knock(address: SocketAddr) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"nonsense").unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn signals_during_the_start_are_not_lost(engine: Engine) {
    let Starting {
        folder: _folder,
        mut list,
        mut program,
    } = Starting::new(engine, &["--metrics", "127.0.0.1:0"]);
    for name in ["HUP", "USR1", "HUP"] {
        program.signal(name);
    }
    list.write_all(b"192.0.2.1\n").unwrap();
    drop(list);
    knock(program.listening());
    let line = program.line(|line| line.starts_with("metrics on "));
    let url = line.strip_prefix("metrics on http://").unwrap();
    let metrics = url.strip_suffix("/metrics").unwrap().parse().unwrap();
    // The reload that SIGHUP requests follows. It refuses the pipe, which can be read once.
    until("the lists are read again", || {
        let failed = page(metrics).lines().find_map(|line| {
            line.strip_prefix("wirebench_proxy_list_reloads_total{outcome=\"failed\"} ")?
                .parse()
                .ok()
        });
        failed.is_some_and(|failed: u64| failed > 0)
    });
    program.signal("TERM");
    let finished = program.wait(NOTICED);
    assert_eq!(finished.code, Some(0));
    assert!(
        finished.stderr.contains("it is a pipe"),
        "{}",
        finished.stderr
    );
}

fn page(metrics: SocketAddr) -> String {
    let mut client = TcpStream::connect(metrics).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    client.read_to_string(&mut page).unwrap();
    page
}

fn a_starting_program_can_be_ended(engine: Engine) {
    for name in ["INT", "TERM"] {
        let starting = Starting::new(engine, &[]);
        starting.program.signal(name);
        let finished = starting.program.wait(NOTICED);
        // By the signal, as if it were not caught.
        assert_eq!((finished.code, finished.stdout.as_str()), (None, ""));
    }
}

fn sigusr1_and_sighup_reopen_the_log(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0", "--log"];
    let args = fixed.into_iter().chain([log.to_str().unwrap()]);
    let mut program = start(args.chain(engine.options()));
    let address = program.listening();
    let moved = |number: usize| -> PathBuf { folder.path().join(format!("log.{number}")) };
    for (number, name) in ["USR1", "HUP", "USR1"].into_iter().enumerate() {
        knock(address);
        until("the line is there", || lines(&log) == 1);
        fs::rename(&log, moved(number)).unwrap();
        program.signal(name);
        until("the log is reopened", || log.exists());
    }
    knock(address);
    until("the line is there", || lines(&log) == 1);
    for number in 0..3 {
        assert_eq!(lines(&moved(number)), 1);
    }
    program.signal("TERM");
    program.wait(NOTICED).done();
}

fn sigusr1_without_a_log_does_nothing(engine: Engine) {
    let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
    let mut program = start(fixed.into_iter().chain(engine.options()));
    let address = program.listening();
    program.signal("USR1");
    knock(address);
    program.signal("TERM");
    program.wait(NOTICED).done();
}
