//! `bench proxy load --user`: the load generator authenticates at proxies, by SOCKS5 and CONNECT.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{Finished, PATIENCE, Running, start};
use serde_json::Value;
use tempfile::NamedTempFile;

on_both_engines!(
    every_scenario_is_measured_with_authentication,
    a_wrong_password_is_a_refusal
);

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

struct Both {
    via: SocketAddr,
    origin: SocketAddr,
    _programs: [Running; 2],
}

impl Both {
    #[track_caller]
    fn start(engine: Engine) -> Self {
        let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
        let origin = server.listening();
        let (users, list) = (file("ann:se:cret\n"), file("192.0.2.1\n"));
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0", "--quiet"];
        let more = ["--auth-file", path(&users), "--blocklist", path(&list)];
        let mut program = start(fixed.into_iter().chain(more).chain(engine.options()));
        Self {
            via: program.listening(),
            origin,
            _programs: [program, server],
        }
    }

    #[track_caller]
    fn load(&self, options: &str) -> (Value, Finished) {
        load(self.origin, self.via, options)
    }
}

const BLOCKED: &str = "--blocked 192.0.2.1:9";

#[track_caller]
fn load(origin: SocketAddr, via: SocketAddr, options: &str) -> (Value, Finished) {
    let line = format!(
        "proxy load --origin {origin} --via {via} --json - --no-save --connections 4 --repeat 1 --duration 100ms \
         --warmup 10ms --timeout 2s {options}"
    );
    let finished = start(line.split_whitespace()).wait(PATIENCE);
    let record = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout, finished.stderr));
    (record, finished)
}

fn every_scenario_is_measured_with_authentication(engine: Engine) {
    let both = Both::start(engine);
    let secret = file("se:cret\nanother line\n");
    let from_file = format!("--user ann --password-file {}", path(&secret));
    for (user, protocol) in [
        ("--user ann --password se:cret", "connect"),
        (&*from_file, "socks5"),
        ("--user=ann --password=se:cret", "socks5,connect"),
    ] {
        let (record, finished) = both.load(&format!("{user} --protocol {protocol} {BLOCKED}"));
        finished.done();
        for run in record["runs"].as_array().unwrap() {
            assert_eq!(run["errors"]["total"], 0, "{run:#}");
            assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
            let signed_in = run["path"] != "direct";
            assert_eq!(run["requested"]["signed_in"], signed_in, "{run:#}");
        }
        assert!(
            !record.to_string().contains("cret"),
            "the password is in the record"
        );
    }
}

fn a_wrong_password_is_a_refusal(engine: Engine) {
    let both = Both::start(engine);
    for protocol in ["socks5", "connect"] {
        for user in [
            "--user ann --password wrong",
            "--user bob --password se:cret",
            "",
        ] {
            let options =
                format!("{user} --protocol {protocol} --no-direct --scenario request-response");
            let (record, finished) = both.load(&options);
            let errors = &record["runs"][0]["errors"];
            assert!(
                errors["refused_by_proxy"].as_u64().unwrap() > 0,
                "{errors:#}"
            );
            assert_eq!(errors["refused_by_proxy"], errors["total"]);
            finished.failed(3, &["answered correctly"]);
        }
    }
}

#[test]
fn a_refused_password_is_not_a_blocked_destination() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let via = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            thread::spawn(move || {
                let _ = client.read(&mut [0; 512]);
                // The status happens to be the number that a request's reply has for "not allowed".
                let _ = client.write_all(&[5, 2, 1, 2]);
                let _ = client.read_to_end(&mut Vec::new());
            });
        }
    });
    let options = format!("--user ann --password x --scenario blocked --no-direct {BLOCKED}");
    let (record, finished) = load(via, via, &options);
    let run = &record["runs"][0];
    assert_eq!(run["requests"], 0, "{run:#}");
    assert!(
        run["errors"]["refused_by_proxy"].as_u64().unwrap() > 0,
        "{run:#}"
    );
    finished.failed(3, &["refused_by_proxy"]);
}

#[test]
fn credentials_that_cannot_be_sent_are_refused_before_the_measurement() {
    let long = "x".repeat(256);
    for (options, words) in [
        ("--user ann", "--password"),
        ("--password x", "--user"),
        (
            "--user ann --password x --password-file y",
            "--password-file",
        ),
        ("--user a:b --password x", "no colon"),
        (&format!("--user ann --password {long}"), "255 bytes"),
        (
            "--user ann --password x --protocol json",
            "--protocol socks5 or connect",
        ),
        (
            "--user ann --password x --protocol forward",
            "--protocol socks5 or connect",
        ),
    ] {
        let line = format!("proxy load --origin 127.0.0.1:9 --via 127.0.0.1:9 --no-save {options}");
        start(line.split_whitespace())
            .wait(PATIENCE)
            .failed(2, &[words]);
    }
    let line = "proxy load --origin 127.0.0.1:9 --via 127.0.0.1:9 --no-save --user ann --password-file /nowhere";
    start(line.split_whitespace())
        .wait(PATIENCE)
        .failed(3, &["/nowhere", "--password-file"]);
    start("proxy --no-save --user ann --password x".split(' '))
        .wait(PATIENCE)
        .failed(2, &["--via"]);
}
