//! Sockets by path: `unix:PATH` with every command of `bench proxy` that listens or connects.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use crate::common::{NOTICED, PATIENCE, Running, start};
use serde_json::Value;

/// `unix:` and a path in this folder.
fn at(folder: &Path, name: &str) -> String {
    format!("unix:{}", folder.join(name).display())
}

/// Waits until a command prints that it listens there.
#[track_caller]
fn listens(program: &mut Running, place: &str) {
    let line = format!("listening on {place}");
    program.line(|text| text == line);
}

#[track_caller]
fn answer(path: &Path, sent: &[u8]) -> Vec<u8> {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn the_origin_listens_on_a_path_and_is_loaded_there() {
    let folder = tempfile::tempdir().unwrap();
    let place = at(folder.path(), "origin");
    let mut origin = start(["proxy", "origin", "--listen", &place]);
    listens(&mut origin, &place);
    assert_eq!(
        answer(&folder.path().join("origin"), b"hi"),
        b"RESPONSE || hi"
    );
    origin.line(|line| line == "unix: hi");
    let line = format!(
        "proxy load --origin {place} --json - --no-save --connections 4 --streams 2 --repeat 1 --duration 100ms --warmup 10ms"
    );
    let finished = start(line.split_whitespace()).wait(PATIENCE).done();
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{record:#}");
    for run in runs {
        assert_eq!(run["errors"]["total"], 0, "{run:#}");
        assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
        assert_eq!(run["requested"]["origin"], place);
    }
    origin.signal("INT");
    origin.wait(NOTICED).done();
    assert!(!folder.path().join("origin").exists());
    // The server has stopped.
    let finished = start(line.split_whitespace()).wait(PATIENCE);
    assert!(
        finished.stdout.contains("connect_failed"),
        "{}",
        finished.stdout
    );
    finished.failed(3, &["answered correctly"]);
}

#[test]
fn a_server_by_path_is_never_requested_of_a_proxy() {
    for options in [
        "load --origin unix:/nowhere --via 127.0.0.1:9",
        "load --origin unix:/nowhere --via unix:/nowhere --protocol forward,connect",
        "--origin unix:/nowhere --protocol forward",
    ] {
        start(format!("proxy {options} --no-save").split(' '))
            .wait(PATIENCE)
            .failed(2, &["unix:/nowhere", "--protocol forward"]);
    }
}

#[test]
fn a_message_is_sent_to_a_proxy_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let place = at(folder.path(), "proxy");
    let listener = UnixListener::bind(folder.path().join("proxy")).unwrap();
    let proxy = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut sent = vec![0; 1_000];
        let bytes = client.read(&mut sent).unwrap();
        client.write_all(b"an answer\n").unwrap();
        String::from_utf8(sent[..bytes].to_vec()).unwrap()
    });
    let send = |place: &str| {
        let args = [
            "proxy",
            "send",
            "--proxy",
            place,
            "--server",
            "127.0.0.1:9",
            "ping",
        ];
        start(args).wait(PATIENCE)
    };
    assert_eq!(send(&place).done().stdout, "an answer\n");
    assert!(proxy.join().unwrap().contains("\"message\": \"ping\""));
    send(&place).failed(3, &[&place, "cannot connect", "bench proxy serve"]);
    send("unix:").failed(2, &["1 to 107 bytes"]);
    send("somewhere").failed(2, &["unix:PATH"]);
}

#[test]
fn a_path_in_use_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let place = at(folder.path(), "s");
    let origin = || start(["proxy", "origin", "--quiet", "--listen", &place]);
    let mut first = origin();
    listens(&mut first, &place);
    origin().wait(PATIENCE).failed(3, &[&place, "another path"]);
    assert_eq!(answer(&folder.path().join("s"), b""), b"RESPONSE || ");
    // A killed process leaves its socket behind.
    first.signal("KILL");
    drop(first);
    assert!(folder.path().join("s").exists());
    let mut second = origin();
    listens(&mut second, &place);
    assert_eq!(answer(&folder.path().join("s"), b""), b"RESPONSE || ");
    second.signal("TERM");
    second.wait(NOTICED).done();
    fs::write(folder.path().join("s"), "no socket").unwrap();
    origin().wait(PATIENCE).failed(3, &[&place, "another path"]);
    assert_eq!(fs::read(folder.path().join("s")).unwrap(), b"no socket");
}
