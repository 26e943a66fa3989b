//! `bench udp` over a path with delay, loss, outages and resets, to a server with other clocks than the client.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::common::clocks::bench_ahead;
use crate::common::delay::{Datagram, Delay, Way};
use crate::common::engine::{Engine, available};
use crate::common::{
    NOTICED, PATIENCE, Results, Running, Serve, assert_accounted, assert_identities, number, start,
    table, until,
};
use serde_json::Value;
use wirebench::udp::wire::header::{HEADER, Header, Kind};

/// How far the server's clocks are ahead, in seconds.
const AHEAD: &str = "10";

const MS: Duration = Duration::from_millis(1);

/// A server with its own clocks, or with the clocks of this host if there are no time namespaces.
struct Server {
    program: Running,
    address: SocketAddr,
    has_own_clocks: bool,
}

impl Server {
    #[track_caller]
    fn start() -> Self {
        let serve = ["serve", "--bind", "127.0.0.1:0", "--no-save"];
        let command = bench_ahead(AHEAD);
        let has_own_clocks = command.is_some();
        let mut program = match command {
            Some(mut command) => {
                command.args(serve);
                Running::new(command)
            }
            None => start(serve),
        };
        let address = program.listening();
        Self {
            program,
            address,
            has_own_clocks,
        }
    }

    /// Checks the relation of the clocks.
    #[track_caller]
    fn assert_clock(&self, run: &Value) {
        let clock = &run["effective"]["clock"];
        if self.has_own_clocks {
            assert_eq!(clock["source"], "estimated", "{clock}");
            let ahead = clock["offset_ns"].as_i64().unwrap().unsigned_abs();
            let off = ahead.abs_diff(10_000_000_000);
            assert!(off <= number(clock, "error_ns"), "{clock}");
        }
    }
}

/// Runs `body` on both engines with each of `ways`, all at once, since they mostly wait.
fn each_way(ways: &[&str], body: impl Fn(Engine, &str) + Sync) {
    let engines = ["", "--engine uring"].into_iter().filter_map(available);
    let body = &body;
    thread::scope(|scope| {
        for engine in engines {
            for way in ways {
                scope.spawn(move || body(engine, way));
            }
        }
    });
}

/// Starts a client that saves its record.
fn client(path: &Delay, engine: Engine, options: &str) -> (Running, Results) {
    let results = Results::new();
    let (to, out) = (path.address.to_string(), results.arg());
    let fixed = ["udp", "--to", &to, "--out", &out, "--clock", "estimate"];
    let options = options.split_whitespace().chain(engine.options());
    (start(fixed.into_iter().chain(options)), results)
}

/// Waits for a run that completes, and returns the record of each direction.
#[track_caller]
fn done(running: Running, results: &Results) -> Vec<Value> {
    running.wait(PATIENCE).done();
    let runs = results.record()["runs"].as_array().unwrap().clone();
    assert!(!runs.is_empty());
    for run in &runs {
        assert_eq!(
            (&run["ended"], &run["complete"]),
            (&"complete".into(), &true.into())
        );
        assert_accounted(run);
    }
    runs
}

#[track_caller]
fn completed(path: &Delay, engine: Engine, options: &str) -> Vec<Value> {
    let (running, results) = client(path, engine, options);
    done(running, &results)
}

/// Checks that the truth is within the error bar: one-way latency `truth`, and the requested pace.
#[track_caller]
fn assert_true(run: &Value, truth: Duration, round_trip: Duration) {
    let error = number(run, "effective.clock.error_ns");
    assert!(error >= round_trip.as_nanos() as u64 / 2, "{error}");
    // A busy machine sends late.
    let late = 8_000_000;
    let median = run["latency_ns"]["p50"].as_i64().unwrap();
    let off = median.abs_diff(truth.as_nanos() as i64);
    assert!(
        off <= error + late,
        "median {median}, error {error}: {run:#}"
    );
    let bytes = number(run, "received.bytes") as f64;
    let seconds = bytes / 1e3 / run["kb_per_s"].as_f64().unwrap();
    let paced = number(run, "sent.packets") as f64 / run["requested"]["pps"].as_f64().unwrap();
    let off = (seconds - paced - truth.as_secs_f64()).abs();
    // The record has the lateness of the sender; the receiver may be late too.
    let sender_late = number(run, "pacing.lateness_ns.max") as f64 / 1e9;
    let late = 0.05;
    assert!(
        off <= error as f64 / 1e9 + sender_late + late,
        "{seconds} s for {paced} s, error {error}"
    );
}

#[test]
fn rates_and_latencies_are_within_their_error_bars_between_clocks_10_s_apart() {
    each_way(&["", "--reverse", "--bidir"], |engine, way| {
        let server = Server::start();
        let path = Delay::new(server.address, 15 * MS, 15 * MS);
        for run in completed(&path, engine, &format!("--pps 200 --duration 1s {way}")) {
            assert_true(&run, 15 * MS, 30 * MS);
            assert_eq!(number(&run, "lost.packets"), 0);
            assert_eq!(number(&run, "received.foreign"), 0);
            server.assert_clock(&run);
        }
        for run in completed(&path, engine, &format!("--mb 0.1 {way}")) {
            assert_eq!(number(&run, "received.bytes"), 100_000);
        }
    });
}

#[test]
fn an_uneven_path_is_within_the_error_bar() {
    each_way(&["", "--reverse"], |engine, way| {
        let server = Server::start();
        for (there, back) in [(2 * MS, 40 * MS), (40 * MS, 2 * MS)] {
            let path = Delay::new(server.address, there, back);
            let truth = if way.is_empty() { there } else { back };
            for run in completed(&path, engine, &format!("--pps 200 --duration 0.5s {way}")) {
                assert_true(&run, truth, there + back);
                server.assert_clock(&run);
            }
        }
    });
}

#[test]
fn a_round_trip_of_a_second_only_slows_the_run() {
    each_way(&["", "--reverse"], |engine, way| {
        let server = Server::start();
        let path = Delay::new(server.address, 500 * MS, 500 * MS);
        for run in completed(&path, engine, &format!("--pps 100 --packets 50 {way}")) {
            assert_true(&run, 500 * MS, 1_000 * MS);
            assert_eq!(number(&run, "lost.packets"), 0);
            assert_eq!(number(&run, "received.foreign"), 0);
            server.assert_clock(&run);
        }
    });
}

#[test]
fn an_outage_costs_only_its_datagrams() {
    each_way(&["", "--reverse"], |engine, way| {
        let server = Server::start();
        let path = Delay::new(server.address, 2 * MS, 2 * MS);
        let options = format!("--pps 200 --duration 4500ms --interval 100ms {way}");
        let (mut running, results) = client(&path, engine, &options);
        running.first_row();
        path.silence(3_200 * MS);
        for run in done(running, &results) {
            // 640 datagrams are sent during the outage.
            let lost = number(&run, "lost.packets");
            assert!((540..=680).contains(&lost), "{lost}");
        }
    });
}

#[test]
fn an_outage_before_the_first_datagram_delays_the_run() {
    // During the first clock exchanges: two probes and a few pings come before.
    each_way(&[""], |engine, _| {
        let server = Server::start();
        let path = Delay::new(server.address, 5 * MS, 5 * MS);
        let (running, results) = client(&path, engine, "--pps 200 --packets 100");
        until("the clocks are asked", || path.datagrams(Way::There) >= 3);
        path.silence(4_000 * MS);
        for run in done(running, &results) {
            assert_eq!(number(&run, "lost.packets"), 0);
            server.assert_clock(&run);
        }
    });
}

#[test]
fn a_late_reply_over_a_new_connection_ends_no_run() {
    each_way(&["", "--reverse"], |engine, way| {
        let server = Server::start();
        let path = Delay::new(server.address, 2 * MS, 2 * MS);
        let options = format!("--pps 200 --duration 7s --interval 100ms {way}");
        let (mut running, results) = client(&path, engine, &options);
        running.first_row();
        // A connection is replaced after 3 s, and the new one has 2 s.
        path.hold_answers(5_800 * MS);
        for run in done(running, &results) {
            assert_eq!(number(&run, "lost.packets"), 0);
        }
        assert!(path.connections() > 2);
    });
}

#[test]
fn a_reset_connection_is_replaced_and_no_message_is_counted_twice() {
    each_way(&["", "--reverse", "--streams 2"], |engine, way| {
        let server = Server::start();
        // The result takes 100 ms on the path, so that a reset can occur meanwhile.
        let path = Delay::new(server.address, 2 * MS, 100 * MS);
        let options = format!("--pps 300 --duration 1s --interval 100ms --packets-csv {way}");
        let (mut running, results) = client(&path, engine, &options);
        running.first_row();
        let before = path.connections();
        let runs = thread::scope(|scope| {
            let over = scope.spawn(|| done(running, &results));
            while !over.is_finished() {
                // At any time, including the end; a new connection has time for its greeting.
                path.reset();
                thread::sleep(900 * MS);
            }
            over.join().unwrap()
        });
        assert!(path.connections() > before, "never replaced");
        for run in runs {
            assert_eq!(number(&run, "lost.packets"), 0);
            assert_eq!(number(&run, "received.duplicates"), 0);
            let rows = table(&results.only().join("packets.csv"));
            assert_eq!(rows.len() as u64 - 1, number(&run, "received.unique"));
        }
    });
}

#[test]
fn loss_ends_no_run() {
    let ways = [
        "--pps 300",
        "--pps 300 --reverse",
        "--gso off",
        "--gso off --reverse",
    ];
    each_way(&ways, |engine, way| {
        let server = Server::start();
        let path = Delay::with(server.address, 2 * MS, 2 * MS, |datagram| {
            // A pseudo-random number.
            let dice = datagram.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
            match dice * 100 / 128 {
                0..30 => vec![],
                // Duplicated and late.
                30..33 => vec![2 * MS, 9 * MS],
                33..36 => vec![20 * MS],
                _ => vec![2 * MS],
            }
        });
        for run in completed(&path, engine, &format!("--packets 400 {way}")) {
            let lost = number(&run, "lost.packets");
            assert!((60..=180).contains(&lost), "{lost}");
            assert!(number(&run, "received.duplicates") > 0);
            assert!(number(&run, "received.reordered") > 0);
            server.assert_clock(&run);
        }
    });
}

#[test]
fn a_new_address_of_the_client_ends_no_run() {
    let ways = [
        "--pps 200",
        "--gso off",
        "--pps 200 --reverse",
        "--gso off --reverse",
    ];
    each_way(&ways, |engine, way| {
        let server = Server::start();
        let path = Delay::new(server.address, 2 * MS, 2 * MS);
        let options = format!("--duration 2500ms --interval 100ms {way}");
        let (mut running, results) = client(&path, engine, &options);
        running.first_row();
        path.rebind();
        for run in done(running, &results) {
            let rows = run["intervals"].as_array().unwrap();
            let end = rows.last().unwrap()["start_s"].as_f64().unwrap();
            assert!(end > 2.0, "{way}: {rows:#?}");
            let late = rows
                .iter()
                .filter(|row| row["start_s"].as_f64().unwrap() > 2.0);
            let packets: u64 = late.map(|row| number(row, "packets")).sum();
            assert!(packets > 0, "{way}: {rows:#?}");
        }
    });
}

/// Whether a datagram is a ping of a clock exchange: its kind is byte 24, and it is a header only.
fn is_clock_ping(datagram: &Datagram<'_>) -> bool {
    datagram.way == Way::There
        && datagram.bytes.len() == HEADER
        && datagram.bytes[24] == Kind::Ping as u8
}

#[test]
fn without_clock_exchanges_the_latency_is_unknown() {
    each_way(&["", "--reverse"], |engine, way| {
        let server = Server::start();
        let path = Delay::with(
            server.address,
            2 * MS,
            2 * MS,
            |datagram| match is_clock_ping(datagram) {
                true => vec![],
                false => vec![2 * MS],
            },
        );
        let options = format!("--pps 200 --duration 1s --packets-csv {way}");
        let (running, results) = client(&path, engine, &options);
        running.wait(PATIENCE).done();
        let run = results.run();
        assert_identities(&run);
        let clock = &run["effective"]["clock"];
        assert_eq!(
            (&clock["source"], &clock["offset_ns"]),
            (&"none".into(), &Value::Null)
        );
        let note = clock["note"].as_str().unwrap();
        assert!(note.contains("no clock exchange"), "{clock}");
        assert!(run["latency_ns"].is_null(), "{run:#}");
        assert!(run["latency_from_intended_ns"].is_null(), "{run:#}");
        // 200 KB/s are sent; a busy machine may be late with them.
        let kb = run["kb_per_s"].as_f64().unwrap();
        assert!((50.0..220.0).contains(&kb), "{kb}");
        for row in run["intervals"].as_array().unwrap() {
            assert!(row["latency_p50_ns"].is_null(), "{row}");
        }
        for file in ["packets.csv", "intervals.csv"] {
            let rows = table(&results.only().join(file));
            let is_latency = |(_, name): &(usize, &str)| name.starts_with("latency");
            let (column, _) = rows[0].iter().enumerate().find(is_latency).unwrap();
            assert!(rows.len() > 1, "{file}");
            assert!(rows[1..].iter().all(|row| row[column].is_empty()), "{file}");
        }
    });
}

#[test]
fn a_flow_whose_first_responses_are_lost_is_opened_by_a_later_one() {
    let server = Server::start();
    for way in ["", "--reverse", "--bidir"] {
        let path = Delay::with(server.address, 2 * MS, 2 * MS, |datagram| {
            match datagram.way == Way::Back && datagram.number < 6 {
                true => vec![],
                false => vec![2 * MS],
            }
        });
        let options = format!("--pps 200 --packets 40 --streams 2 {way}");
        let (running, results) = client(&path, Engine(""), &options);
        for run in done(running, &results) {
            assert_eq!(number(&run, "lost.packets"), 0);
        }
    }
}

#[test]
fn a_repeated_response_to_the_opening_probe_is_not_foreign() {
    each_way(&["", "--reverse", "--bidir"], |engine, way| {
        let server = Server::start();
        let path = Delay::with(
            server.address,
            2 * MS,
            2 * MS,
            |datagram| match Header::decode(datagram.bytes) {
                Ok(header) if header.kind == Kind::Credit => vec![2 * MS, 60 * MS],
                _ => vec![2 * MS],
            },
        );
        for run in completed(&path, engine, &format!("--pps 200 --packets 60 {way}")) {
            assert_eq!(number(&run, "received.foreign"), 0);
            assert_eq!(number(&run, "received.unique"), 60);
        }
    });
}

#[test]
fn the_losses_are_unknown_if_the_server_is_killed() {
    each_way(&["", "--reverse"], |engine, way| {
        let server = Server::start();
        let path = Delay::new(server.address, 15 * MS, 15 * MS);
        let options = format!("--pps 200 --duration 30s --interval 100ms {way}");
        let (mut running, results) = client(&path, engine, &options);
        running.first_row();
        drop(server.program);
        running.wait(NOTICED).failed(3, &["was lost"]);
        let run = results.run();
        assert_eq!(run["ended"], "peer_lost");
        let lost = run["lost"].as_object().unwrap();
        assert!(lost.values().all(Value::is_null), "{run:#}");
        assert!(number(&run, "received.unique") > 0);
    });
}

/// The server cannot know the estimate of a client that is lost, but knows whether there were clock exchanges.
#[test]
fn the_record_of_a_lost_client_has_an_estimated_clock_only_with_clock_exchanges() {
    for (exchanged, source, note) in [
        (true, "estimated", "the client was lost"),
        (false, "none", "no clock exchange"),
    ] {
        // A killed client may end its connection by a reset, after which the server waits for another one. Opening a session
        // without clock exchanges takes 3 s.
        let mut server = Serve::start(&["--idle-timeout", "8s"]);
        let path = Delay::with(server.address, 2 * MS, 2 * MS, move |datagram| {
            match is_clock_ping(datagram) && !exchanged {
                true => vec![],
                false => vec![2 * MS],
            }
        });
        let options = "--pps 200 --duration 30s --interval 200ms";
        let (mut running, _results) = client(&path, Engine(""), options);
        running.first_row();
        running.signal("KILL");
        server.program.line(|line| line.starts_with("saved in "));
        let run = server.results.run();
        assert_eq!(run["ended"], "peer_lost");
        let clock = &run["effective"]["clock"];
        assert_eq!(clock["source"], source, "{clock}");
        assert!(clock["note"].as_str().unwrap().contains(note), "{clock}");
        assert_eq!(run["latency_ns"].is_null(), !exchanged, "{run:#}");
    }
}

#[test]
fn the_readme_examples_of_two_hosts_run_over_a_delayed_path() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## Two hosts\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    // The options of an example without its comment, at a rate that the delay line carries and for a shorter time.
    let examples: Vec<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("bench udp --to 192.0.2.7 "))
        .map(|line| line.split('#').next().unwrap().replace("1G", "20M"))
        .map(|line| {
            let words = line.split_whitespace().scan("", |before, word| {
                let short = if *before == "--duration" { "1s" } else { word };
                *before = word;
                Some(short.to_owned())
            });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert!(examples.len() >= 3, "{examples:?}");
    let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
    each_way(&examples, |engine, example| {
        let server = Server::start();
        let path = Delay::new(server.address, 20 * MS, 20 * MS);
        for run in completed(&path, engine, example) {
            let error = number(&run, "effective.clock.error_ns");
            assert!(error >= 20_000_000, "{example}: {error}");
            assert!(number(&run, "received.packets") > 0, "{example}");
            server.assert_clock(&run);
        }
    });
}
