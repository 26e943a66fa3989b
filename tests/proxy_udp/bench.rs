//! `bench proxy --scenario udp`.

use crate::common::relay::Relay;
use crate::common::{Finished, Results, Running, Serve, bench, number, start, table};
use serde_json::Value;

/// A short measurement.
#[track_caller]
fn measure(options: &str) -> (Finished, Results) {
    measure_for("200ms", options)
}

#[track_caller]
fn measure_for(duration: &str, options: &str) -> (Finished, Results) {
    let results = Results::new();
    let out = results.arg();
    let fixed = "proxy --scenario udp --repeat 1 --rate 1k --warmup 10ms --duration";
    let words = fixed
        .split(' ')
        .chain([duration, "--out", &*out])
        .chain(options.split_whitespace());
    (bench(words), results)
}

#[track_caller]
fn runs(results: &Results) -> Vec<Value> {
    let runs = results.record()["runs"].as_array().unwrap().clone();
    for run in &runs {
        assert_eq!(
            (&run["scenario"], &run["complete"]),
            (&"udp".into(), &true.into()),
            "{run:#}"
        );
        let of = |key: &str| number(run, &format!("udp.{key}"));
        let proxy = run["udp"]["lost_proxy"].as_u64().unwrap_or(0);
        let places = of("lost_sender") + of("lost_receiver") + of("lost_elsewhere") + proxy;
        assert_eq!(of("lost"), places, "{run:#}");
        if run["path"] != "blocked" {
            assert_eq!(of("sent"), number(run, "requests") + of("lost"), "{run:#}");
            assert!(number(run, "latency_ns.p50") > 0);
        }
    }
    runs
}

#[test]
fn a_started_relay_is_measured_on_all_paths() {
    let (finished, results) = measure("");
    let text = finished.done().stdout;
    let runs = runs(&results);
    let paths: Vec<_> = runs
        .iter()
        .map(|run| run["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["direct", "proxied", "blocked"]);
    let [direct, proxied, blocked] = &runs[..] else {
        panic!("{runs:#?}");
    };
    assert!(direct["cpu"]["proxy_user_s"].is_null() && direct["udp"]["lost_proxy"].is_null());
    for run in [proxied, blocked] {
        assert!(
            run["udp"]["proxy_s_per_million"].as_f64().unwrap() > 0.0,
            "{run:#}"
        );
        assert!(run["udp"]["lost_proxy"].is_u64(), "{run:#}");
        assert_eq!(run["protocol"], "forward");
    }
    assert!(number(blocked, "requests") > 0);
    assert_eq!(number(blocked, "errors.total"), 0);
    for words in [
        "packets/s",
        "s per million packets",
        "added",
        "proxy's sockets",
        "blocked",
    ] {
        assert!(text.contains(words), "no '{words}' in {text}");
    }
    let ledger = table(&results.folder.path().join("proxy.csv"));
    assert_eq!(ledger.len(), 4);
    let column = ledger[0]
        .iter()
        .position(|name| name == "sent_packets")
        .unwrap();
    assert_eq!(ledger[1][column], number(direct, "udp.sent").to_string());
}

#[test]
fn a_started_socks5_proxy_drops_datagrams_to_a_blocked_destination() {
    let (finished, results) = measure_for("50ms", "--protocol socks5 --no-direct");
    finished.done();
    let runs = runs(&results);
    let [proxied, blocked] = &runs[..] else {
        panic!("{runs:#?}");
    };
    assert_eq!(
        (&proxied["path"], &blocked["path"]),
        (&"proxied".into(), &"blocked".into())
    );
    assert_eq!(blocked["protocol"], "socks5");
    assert!(number(blocked, "requests") > 0, "{blocked:#}");
    assert_eq!(number(blocked, "errors.total"), 0);
}

#[test]
fn a_running_relay_is_measured_with_the_cpu_time_of_its_process() {
    let server = Serve::start(&[]);
    let relay = Relay::udp(server.address);
    let (to, via, process) = (server.address, relay.address, std::process::id());
    let options = format!("--via {via} --origin {to} --protocol forward --server-pid {process}");
    let (finished, results) = measure(&options);
    let text = finished.done().stdout;
    assert!(text.contains("blocked is left out"), "{text}");
    let runs = runs(&results);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1]["requested"]["via"], via.to_string());
    assert!(runs[1]["cpu"]["proxy_user_s"].is_f64());
    assert!(relay.forwarded().0 > 0);
}

/// A running SOCKS5 proxy that refuses the destinations of a list.
fn refusing(list: &str, more: &[&str]) -> (Running, std::net::SocketAddr, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), list).unwrap();
    let path = file.path().to_str().unwrap();
    let fixed = [
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--quiet",
        "--allow-empty",
        "--blocklist",
    ];
    let mut proxy = start(fixed.iter().chain([&path]).chain(more));
    let address = proxy.listening();
    (proxy, address, file)
}

/// An unused UDP address of this host.
fn unused() -> std::net::SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn a_running_proxy_drops_datagrams_to_a_named_destination() {
    let (server, blocked) = (Serve::start(&[]), unused());
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "ann:secret\n").unwrap();
    let users = users.path().to_str().unwrap();
    let (_proxy, via, _list) =
        refusing(&format!("{blocked}\n192.0.2.1\n"), &["--auth-file", users]);
    let to = server.address;
    let of = |blocked: &str| {
        format!(
            "--via {via} --origin {to} --protocol socks5 --user ann --password secret --no-direct --blocked {blocked}"
        )
    };
    let (finished, results) = measure(&of(&blocked.to_string()));
    let text = finished.done().stdout;
    let runs = runs(&results);
    let [proxied, blocked] = &runs[..] else {
        panic!("{runs:#?}");
    };
    assert_eq!(blocked["path"], "blocked");
    assert!(number(blocked, "udp.sent") > 100, "{blocked:#}");
    assert_eq!(number(blocked, "udp.sent"), number(blocked, "udp.lost"));
    assert_eq!(number(blocked, "errors.total"), 0);
    assert_eq!(
        blocked["warnings"].as_array().unwrap().len(),
        0,
        "{blocked:#}"
    );
    assert_eq!(blocked["requested"]["signed_in"], true);
    assert_eq!(proxied["requested"]["signed_in"], true);
    let sent = format!("{} sent", number(blocked, "udp.sent"));
    assert!(text.contains(&sent) && text.contains("0 arrived"), "{text}");
    // This host does not receive what arrives there.
    let (finished, results) = measure_for("50ms", &of("192.0.2.1:9"));
    finished.done();
    let warnings = results.record()["runs"][1]["warnings"].to_string();
    assert!(
        warnings.contains("192.0.2.1:9 were not observed"),
        "{warnings}"
    );
}

#[test]
fn a_datagram_that_a_running_proxy_lets_through_is_an_error() {
    let (server, passed) = (Serve::start(&[]), unused());
    let (_proxy, via, _list) = refusing("", &[]);
    let to = server.address;
    let options =
        format!("--via {via} --origin {to} --protocol socks5 --no-direct --blocked {passed}");
    let (finished, results) = measure_for("50ms", &options);
    finished.failed(3, &["not_refused"]);
    let run = &results.record()["runs"][1];
    assert!(number(run, "errors.not_refused") > 0, "{run:#}");
}

#[test]
fn a_relay_that_forwards_nothing_fails_with_a_sentence() {
    let server = Serve::start(&[]);
    let nothing = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (to, via) = (server.address, nothing.local_addr().unwrap());
    let options = format!("--via {via} --origin {to} --no-direct --quiet");
    let (finished, _results) = measure(&options);
    finished.failed(3, &["does not answer through the relay", &via.to_string()]);
}

#[test]
fn options_without_an_effect_on_datagrams_are_usage_errors() {
    for (options, words) in [
        ("--scenario udp,connect", "by itself"),
        ("--scenario udp --protocol connect", "forward or socks5"),
        ("--scenario udp --live", "--live"),
        ("--scenario udp --mb 1", "--mb"),
        ("--scenario udp --connections 4", "--connections"),
        ("--scenario udp --timeout 1s", "--timeout"),
        (
            "--scenario udp --via 127.0.0.1:9 --origin 127.0.0.1:9 --server-pid 4194305",
            "no process 4194305",
        ),
        ("--scenario udp --load-threads 2", "--load-threads"),
        ("--scenario udp --forwarding copy,splice", "--forwarding"),
        (
            "--scenario udp --via 127.0.0.1:9 --origin 127.0.0.1:9 --blocked 192.0.2.1:9",
            "--protocol socks5",
        ),
        ("--scenario udp --message 70000", "1 to 65475"),
        (
            "--scenario udp --protocol socks5 --message 65466",
            "1 to 65465",
        ),
        ("--scenario udp --via 127.0.0.1:9", "--origin"),
        (
            "load --scenario udp --origin 127.0.0.1:9",
            "bench udp --via",
        ),
    ] {
        let args = format!("proxy {options}");
        bench(args.split_whitespace()).failed(2, &[words]);
    }
}
