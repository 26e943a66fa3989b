//! `bench proxy load` with faulty proxies, servers and hosts: it ends in time, and counts each fault as its kind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod bulk;
mod faults;
mod host;
mod open_loop;
mod paths;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use common::{Finished, PATIENCE, Running, start};
use serde_json::Value;

const PREFIX: &[u8] = b"RESPONSE || ";

const KEPT: &str = "--protocol forward --scenario request-response";

fn origin() -> (Running, SocketAddr) {
    let mut program = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
    let address = program.listening();
    (program, address)
}

/// A proxy that does this with each client, in a separate thread.
fn proxy(act: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, act) = (client.unwrap(), act.clone());
            thread::spawn(move || act(client));
        }
    });
    address
}

/// Loads the proxy at `via` with these options. Returns the record and the exit code.
#[track_caller]
fn load(via: SocketAddr, options: &str) -> (Value, Finished) {
    let (_origin, origin) = origin();
    load_before(origin, via, options)
}

#[track_caller]
fn load_before(origin: SocketAddr, via: SocketAddr, options: &str) -> (Value, Finished) {
    // Unless an option changes it.
    let warmup = if options.contains("--warmup") {
        ""
    } else {
        "--warmup 20ms"
    };
    // Streams are no connections of requests.
    let connections = if options.contains("--scenario bulk") {
        ""
    } else {
        "--connections 4"
    };
    let line = format!(
        "proxy load --origin {origin} --via {via} --json - --no-save {connections} --repeat 1 {warmup} {options}"
    );
    let finished = start(line.split_whitespace()).wait(PATIENCE);
    let record = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout, finished.stderr));
    (record, finished)
}

/// The only run on this path.
#[track_caller]
fn only(record: &Value, path: &str) -> Value {
    let runs = record["runs"].as_array().unwrap().iter();
    let mut runs = runs.filter(|run| run["path"] == path);
    let run = runs.next().unwrap_or_else(|| panic!("{record:#}"));
    assert!(runs.next().is_none());
    run.clone()
}

#[track_caller]
fn count(run: &Value, kind: &str) -> u64 {
    run["errors"][kind].as_u64().unwrap()
}

/// Both paths are without an error, and have this result.
#[track_caller]
fn assert_both(record: &Value, key: &str, count_of: u64) {
    for path in ["direct", "proxied"] {
        let run = only(record, path);
        assert_eq!(count(&run, "total"), 0, "{run:#}");
        assert_eq!(run[key], count_of, "{run:#}");
    }
}

/// All requests through `via` fail for this reason; the direct path is not affected.
#[track_caller]
fn assert_only(via: SocketAddr, options: &str, kind: &str) {
    let options = format!("{options} --duration 100ms --timeout 1s");
    let (record, finished) = load(via, &options);
    let run = only(
        &record,
        if options.contains("blocked") {
            "blocked"
        } else {
            "proxied"
        },
    );
    assert_eq!(run["requests"], 0, "{run:#}");
    assert!(count(&run, kind) > 0, "{run:#}");
    assert_eq!(count(&run, kind), count(&run, "total"), "{run:#}");
    assert!(
        run["latency_ns"].is_null() && run["requests_per_s"].is_null(),
        "{run:#}"
    );
    assert_eq!(run["complete"], false);
    if !options.contains("blocked") {
        let direct = only(&record, "direct");
        assert!(direct["requests"].as_u64().unwrap() > 0);
        assert_eq!(count(&direct, "total"), 0, "{direct:#}");
    }
    assert!(
        finished.took < Duration::from_secs(10),
        "{:?}",
        finished.took
    );
    finished.failed(3, &["answered correctly", kind]);
}

/// Reads a request of any kind, or its beginning.
fn read_request(client: &mut TcpStream) -> Vec<u8> {
    let mut request = vec![0; 4_096];
    let bytes = client.read(&mut request).unwrap_or(0);
    request.truncate(bytes);
    request
}

fn answer(answer: &'static [u8]) -> impl Fn(TcpStream) + Clone + Send + 'static {
    move |mut client| {
        read_request(&mut client);
        let _ = client.write_all(answer);
        let _ = client.shutdown(Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    }
}

/// Relays in both directions, and closes both connections as soon as one has ended, as simple proxies do.
fn without_half_closes(origin: SocketAddr) -> SocketAddr {
    proxy(move |client| {
        let server = TcpStream::connect(origin).unwrap();
        let pass = |mut from: TcpStream, mut to: TcpStream| {
            move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            }
        };
        let (back, from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(pass(from, back));
        pass(client, server)();
    })
}
