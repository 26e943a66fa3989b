//! `bench proxy load` with faulty proxies: it ends in time, and counts each fault as its kind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::network::in_own_network;
use common::{Finished, PATIENCE, Running, bench, cpu_ticks, start, until};
use serde_json::Value;
use socket2::SockRef;

const PREFIX: &[u8] = b"RESPONSE || ";

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
    let line = format!(
        "proxy load --origin {origin} --via {via} --json - --no-save --connections 4 --repeat 1 {warmup} {options}"
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

const KEPT: &str = "--protocol forward --scenario request-response";

#[test]
fn a_refused_connection_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_only(address, KEPT, "connect_refused");
    assert_only(
        address,
        "--protocol socks5 --scenario bulk",
        "connect_refused",
    );
    assert_only(
        address,
        "--protocol json --scenario connect",
        "connect_refused",
    );
}

#[test]
fn a_destination_without_a_route_is_counted() {
    // connect(2) refuses a broadcast address at once (ip(7)).
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
    assert_only(nowhere, KEPT, "connect_failed");
    assert_only(
        nowhere,
        "--protocol socks5 --scenario bulk --streams 3",
        "connect_failed",
    );
}

#[test]
fn streams_without_a_file_are_counted() {
    let (_origin, origin) = origin();
    let bench = env!("CARGO_BIN_EXE_bench");
    // Streams with a file send; each stream without one is an error of this host.
    let line = format!(
        "ulimit -n 40 && exec {bench} proxy load --origin {origin} --scenario bulk --streams 60 --mb 6 --json - --no-save \
         --repeat 1 --warmup 0s"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    let finished = Running::new(shell).wait(PATIENCE);
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let run = only(&record, "direct");
    let (right, local) = (run["requests"].as_u64().unwrap(), count(&run, "local"));
    assert!(right > 0 && local > 20, "{run:#}");
    assert_eq!(
        (right + local, count(&run, "total")),
        (60, local),
        "{run:#}"
    );
    assert_eq!(run["bytes"], right * 100_000, "{run:#}");
    finished.done();
}

#[test]
fn streams_share_an_amount() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let options = "--protocol forward --scenario bulk --streams 64 --mb 6.4 --load-threads 2";
    let (record, finished) = load_before(origin, via, options);
    finished.done();
    assert_both(&record, "bytes", 6_400_000);
    assert_both(&record, "requests", 64);
}

#[test]
fn a_proxy_that_resets_is_counted() {
    let reset = |mut client: TcpStream| {
        read_request(&mut client);
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    };
    assert_only(proxy(reset), KEPT, "reset");
    assert_only(
        proxy(reset),
        "--protocol connect --scenario connect",
        "reset",
    );
}

#[test]
fn a_proxy_that_stalls_is_counted() {
    let stall = |mut client: TcpStream| {
        let _ = client.read_to_end(&mut Vec::new());
        thread::sleep(PATIENCE);
    };
    assert_only(proxy(stall), KEPT, "timeout");
    assert_only(
        proxy(stall),
        "--protocol socks5 --scenario connect",
        "timeout",
    );
    assert_only(
        proxy(stall),
        "--protocol forward --scenario bulk",
        "timeout",
    );
}

#[test]
fn a_proxy_that_truncates_is_counted() {
    assert_only(proxy(answer(b"RESPONSE ")), KEPT, "closed_early");
    assert_only(
        proxy(answer(b"")),
        "--protocol json --scenario connect",
        "closed_early",
    );
    assert_only(
        proxy(answer(b"\x05")),
        "--protocol socks5 --scenario connect",
        "closed_early",
    );
}

#[test]
fn a_proxy_that_changes_answers_is_counted() {
    let garbage =
        b"RESPONSE || as you like it, and a good deal more than that, to be sure of it all....";
    assert_only(proxy(answer(garbage)), KEPT, "corrupt");
    assert_only(
        proxy(answer(b"SSH-2.0-OpenSSH\r\n\r\n")),
        "--protocol connect --scenario connect",
        "bad_reply",
    );
    assert_only(
        proxy(answer(garbage)),
        "--protocol socks5 --scenario bulk",
        "bad_reply",
    );
    let no = b"HTTP/1.1 403 Forbidden\r\n\r\n";
    assert_only(
        proxy(answer(no)),
        "--protocol connect --scenario connect",
        "refused_by_proxy",
    );
    let no = b"{\"error\": \"unreachable\", \"detail\": \"no\"}\n";
    assert_only(
        proxy(answer(no)),
        "--protocol json --scenario connect",
        "refused_by_proxy",
    );
    let yes = b"HTTP/1.1 200 OK\r\n\r\n";
    let blocked = "--protocol connect --scenario blocked --blocked 192.0.2.1:9";
    assert_only(proxy(answer(yes)), blocked, "not_refused");
}

#[test]
fn a_proxy_that_repeats_the_previous_answer_is_counted() {
    let stale = |mut client: TcpStream| {
        let mut before = read_request(&mut client);
        let mut answer = [PREFIX, &before].concat();
        while client.write_all(&answer).is_ok() {
            let now = read_request(&mut client);
            if now.is_empty() {
                return;
            }
            answer = std::mem::replace(&mut before, now);
        }
    };
    let (record, finished) = load(proxy(stale), &format!("{KEPT} --duration 200ms"));
    // The first answer of each connection is right.
    let run = only(&record, "proxied");
    assert!(count(&run, "corrupt") > 0, "{run:#}");
    assert_eq!(count(&run, "corrupt"), count(&run, "total"));
    let right = run["requests"].as_u64().unwrap();
    assert!(right > 0 && right <= count(&run, "corrupt") + 4, "{run:#}");
    finished.done();
}

#[test]
fn a_proxy_that_does_not_pass_the_end_on_is_counted() {
    let open = |mut client: TcpStream| {
        let request = read_request(&mut client);
        let message = request.get(16..).unwrap_or_default();
        let _ = client.write_all(&[PREFIX, message].concat());
        let _ = client.read_to_end(&mut Vec::new());
    };
    assert_only(
        proxy(open),
        "--protocol forward --scenario connect",
        "not_closed",
    );
}

#[test]
fn a_proxy_that_changes_one_byte_of_a_million_is_counted() {
    let (_origin, origin) = origin();
    let via = proxy(move |mut client| {
        let mut server = TcpStream::connect(origin).unwrap();
        let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let answers = thread::spawn(move || std::io::copy(&mut from, &mut back));
        let (mut chunk, mut passed) = (vec![0; 65_536], 0);
        while let Ok(bytes @ 1..) = client.read(&mut chunk) {
            if (passed..passed + bytes).contains(&1_000_000) {
                chunk[1_000_000 - passed] ^= 1;
            }
            passed += bytes;
            server.write_all(&chunk[..bytes]).unwrap();
        }
        let _ = server.shutdown(Shutdown::Write);
        let _ = answers.join();
    });
    let options = "--protocol forward --scenario bulk --mb 4";
    let (record, finished) = load_before(origin, via, options);
    let run = only(&record, "proxied");
    assert_eq!(count(&run, "corrupt"), 1, "{run:#}");
    assert_eq!(run["bytes"], 0);
    let direct = only(&record, "direct");
    assert_eq!(direct["bytes"], 4_000_000, "{direct:#}");
    finished.failed(3, &["of them correct"]);
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

#[test]
fn bulk_through_a_proxy_without_half_closes_is_measured() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let options = "--protocol forward --scenario bulk --mb 4";
    let (record, finished) = load_before(origin, via, options);
    finished.done();
    assert_both(&record, "bytes", 4_000_000);
}

#[test]
fn a_kept_schedule_has_no_errors() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let (record, finished) =
        load_before(origin, via, &format!("{KEPT} --duration 300ms --rate 50"));
    finished.done();
    assert_both(&record, "requests", 15);
}

#[test]
fn a_server_that_only_the_proxy_reaches_needs_no_warmup() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let options = "--protocol forward --no-direct --warmup 0s --duration 100ms";
    let unroutable = SocketAddr::from(([192, 0, 2, 1], 9));
    let (record, finished) = load_before(unroutable, via, options);
    let finished = finished.done();
    assert!(!finished.stderr.contains("direct"), "{}", finished.stderr);
    let runs = record["runs"].as_array().unwrap();
    let named = |key: &str| {
        runs.iter()
            .map(|run| run[key].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(named("scenario"), ["connect", "request-response", "bulk"]);
    assert_eq!(named("path"), ["proxied"; 3]);
    for run in runs {
        assert_eq!(count(run, "total"), 0, "{run:#}");
        assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
    }
    assert_eq!(record["overhead"].as_array().unwrap().len(), 0);
    let line = format!("proxy load --origin {origin} --no-direct");
    start(line.split(' '))
        .wait(PATIENCE)
        .failed(2, &["--no-direct", "--via"]);
}

#[test]
fn a_proxy_that_dies_under_load_is_counted() {
    let (_origin, origin) = origin();
    let to = origin.to_string();
    let mut serve = start([
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--quiet",
        "--forward",
        &to,
    ]);
    let via = serve.listening();
    let line = format!(
        "proxy load --origin {origin} --via {via} --protocol forward --scenario request-response --json - --no-save \
         --repeat 1 --warmup 20ms --duration 1500ms --connections 4"
    );
    let program = start(line.split(' '));
    // More than it can use before the measurement: the direct path is first and costs it nothing, and a warm-up takes 20
    // ms.
    let idle = cpu_ticks(serve.id());
    until("the proxy is loaded", || cpu_ticks(serve.id()) >= idle + 10);
    serve.signal("KILL");
    let finished = program.wait(PATIENCE);
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let run = only(&record, "proxied");
    assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
    assert!(count(&run, "connect_refused") > 0, "{run:#}");
    // Each connection is cut off once, unless all had just been answered.
    let cut = count(&run, "reset") + count(&run, "closed_early");
    assert!(cut <= 4, "{run:#}");
    // Requests that fail do not make it look fast.
    assert!(run["seconds"].as_f64().unwrap() >= 1.5, "{run:#}");
    assert_eq!(run["complete"], true);
    finished.done();
}

#[test]
fn latency_of_a_schedule_counts_from_the_scheduled_start() {
    let slow = |mut client: TcpStream| {
        let mut prefix = PREFIX;
        loop {
            let request = read_request(&mut client);
            thread::sleep(Duration::from_millis(20));
            if request.is_empty() || client.write_all(&[prefix, &request].concat()).is_err() {
                return;
            }
            prefix = b"";
        }
    };
    // Four connections can do 200 a second, so half of these requests wait longer and longer.
    let options = format!("{KEPT} --duration 500ms --rate 400");
    let (record, finished) = load(proxy(slow), &options);
    finished.done();
    let run = only(&record, "proxied");
    let figure = |key: &str, percentile: &str| run[key][percentile].as_u64().unwrap();
    assert!(figure("latency_ns", "p50") >= 20_000_000, "{run:#}");
    let waited = figure("latency_from_intended_ns", "max");
    assert!(waited > 150_000_000, "{run:#}");
    assert!(figure("lateness_ns", "max") > 100_000_000, "{run:#}");
    // All requests that were due are counted.
    let total = run["requests"].as_u64().unwrap() + count(&run, "total");
    assert!((199..=201).contains(&total), "{run:#}");
    assert!(count(&run, "not_started") > 50, "{run:#}");
    assert_eq!(count(&run, "not_started"), count(&run, "total"));
    // The direct path has no failures. A busy host may start some requests too late, and they are counted as such.
    let direct = only(&record, "direct");
    assert_eq!(
        count(&direct, "total"),
        count(&direct, "not_started"),
        "{direct:#}"
    );
    let total = direct["requests"].as_u64().unwrap() + count(&direct, "total");
    assert!((199..=201).contains(&total), "{direct:#}");
}

/// Runs `body` in a network where all connections start at one port: a client that connects to that port connects to itself.
fn with_one_port(body: impl FnOnce() + Send) {
    in_own_network(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").unwrap();
        body();
    });
}

#[test]
fn a_connection_to_itself_is_refused() {
    with_one_port(connections_to_itself_are_refused);
}

fn connections_to_itself_are_refused() {
    for scenario in ["connect", "request-response", "bulk"] {
        let options = format!(
            "proxy load --origin 127.0.0.1:40000 --scenario {scenario} --duration 100ms --warmup 0s --repeat 1 \
             --connections 1 --json - --no-save"
        );
        let finished = bench(options.split_whitespace());
        let record: Value = serde_json::from_str(&finished.stdout).unwrap();
        let run = only(&record, "direct");
        assert_eq!(run["requests"], 0, "{run:#}");
        assert!(count(&run, "connect_refused") > 0, "{run:#}");
        assert_eq!(
            count(&run, "connect_refused"),
            count(&run, "total"),
            "{run:#}"
        );
        finished.failed(3, &["connect_refused"]);
    }
}

#[test]
fn a_message_is_not_sent_to_itself() {
    let options = "proxy send --proxy 127.0.0.1:40000 --server 127.0.0.1:9 ping";
    with_one_port(|| {
        bench(options.split(' ')).failed(3, &["cannot connect", "refused"]);
    });
}
