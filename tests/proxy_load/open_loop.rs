//! Requests at a rate: counts and latencies from the scheduled start.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::common::{PATIENCE, number, start, until};
use crate::{
    KEPT, PREFIX, assert_both, count, load, load_before, only, origin, proxy, read_request,
    without_half_closes,
};

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

#[test]
fn whole_number_of_requests_is_exact_on_any_number_of_threads() {
    let (_origin, origin) = origin();
    for threads in ["1", "3"] {
        let line = format!(
            "proxy load --origin {origin} --scenario request-response --rate 2010 --duration 100ms --load-threads {threads} --connections 6 \
             --repeat 1 --warmup 0s --json - --no-save"
        );
        let finished = start(line.split_whitespace()).wait(PATIENCE).done();
        let run = only(&serde_json::from_str(&finished.stdout).unwrap(), "direct");
        // A busy host may start some requests too late.
        let total = number(&run, "requests") + count(&run, "not_started");
        assert_eq!(total, 201, "{run:#}");
    }
}

#[test]
fn stalled_server_is_in_the_latency_of_requests_due_meanwhile() {
    let (server, origin) = origin();
    let files =
        || std::fs::read_dir(format!("/proc/{}/fd", server.id())).map_or(0, Iterator::count);
    let before = files();
    let line = format!(
        "proxy load --origin {origin} --scenario request-response --rate 200 --duration 700ms --connections 4 --repeat 1 --warmup 0s \
         --json - --no-save"
    );
    let program = start(line.split_whitespace());
    until("the server has a connection", || files() > before);
    server.signal("STOP");
    thread::sleep(Duration::from_millis(300));
    server.signal("CONT");
    let finished = program.wait(PATIENCE).done();
    let run = only(&serde_json::from_str(&finished.stdout).unwrap(), "direct");
    assert_eq!(
        number(&run, "requests") + count(&run, "not_started"),
        140,
        "{run:#}"
    );
    // Some 60 of the requests were due during the stall.
    let ms = |path: &str| number(&run, path) / 1_000_000;
    assert!(ms("latency_from_intended_ns.max") >= 250, "{run:#}");
    assert!(ms("latency_from_intended_ns.p90") >= 100, "{run:#}");
    // All but the 4 in flight waited before their start.
    assert!(ms("lateness_ns.p90") >= 100, "{run:#}");
    assert!(
        ms("latency_ns.p50") < ms("latency_from_intended_ns.p90"),
        "{run:#}"
    );
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("late starts"), "{run:#}");
}
