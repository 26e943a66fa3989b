//! Faulty proxies: each fault is counted as its kind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use crate::common::{PATIENCE, cpu_ticks, start, until};
use crate::{KEPT, PREFIX, answer, assert_only, count, load, only, origin, proxy, read_request};

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
fn rounds_without_answers_are_named_and_the_path_is_measured_in_every_round() {
    let (_origin, origin) = origin();
    let is_used = Arc::new(AtomicBool::new(false));
    // The proxy serves one connection, that of the first round.
    let via = proxy(move |client| {
        if is_used.swap(true, Ordering::SeqCst) {
            return;
        }
        let server = TcpStream::connect(origin).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let requests = thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut &server, &mut &client);
        requests.join().unwrap();
    });
    let line = format!(
        "proxy load --origin {origin} --via {via} {KEPT} --json - --no-save --repeat 3 --warmup 0s --duration 50ms --connections 1"
    );
    let finished = start(line.split(' ')).wait(PATIENCE);
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let runs = record["runs"].as_array().unwrap();
    let proxied = runs.iter().filter(|run| run["path"] == "proxied");
    let complete: Vec<_> = proxied.map(|run| run["complete"] == true).collect();
    assert_eq!(complete, [true, false, false], "{record:#}");
    finished.failed(
        3,
        &["on the proxied path in 2 of 3 rounds", "the other rounds"],
    );
}
