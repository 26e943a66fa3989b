//! `bench proxy serve --metrics`: the responses to a monitor, from the program itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use crate::common::{NOTICED, PATIENCE, Running, bench, start, until};

struct Proxy {
    program: Running,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Proxy {
    #[track_caller]
    fn start(more: &[&str]) -> Self {
        let fixed = [
            "proxy",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ];
        let mut program = start(fixed.iter().chain(more));
        let address = program.listening();
        let line = program.line(|line| line.starts_with("metrics on "));
        let url = line.strip_prefix("metrics on http://").unwrap();
        let metrics = url.strip_suffix("/metrics").unwrap().parse().unwrap();
        Self {
            program,
            address,
            metrics,
        }
    }

    /// Head and body.
    #[track_caller]
    fn page(&self, path: &str) -> (String, String) {
        let answer = response_to(
            self.metrics,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// The value of a series.
    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        let (head, body) = self.page("/metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let value = body.lines().find_map(|line| {
            line.strip_prefix("wirebench_proxy_")?
                .strip_prefix(series)?
                .strip_prefix(' ')
        });
        value
            .unwrap_or_else(|| panic!("no {series} in:\n{body}"))
            .parse()
            .unwrap()
    }

    /// Waits until a series has this value.
    #[track_caller]
    fn wait_for(&self, series: &str, value: f64) {
        until(&format!("{series} is {value}"), || {
            self.value(series) == value
        });
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn response_to(to: SocketAddr, sent: &[u8]) -> String {
    let mut client = connect(to);
    client.write_all(sent).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn envelope(to: SocketAddr, message: &str) -> String {
    format!(
        r#"{{"server_ip": "{}", "server_port": {}, "message": "{message}"}}"#,
        to.ip(),
        to.port()
    )
}

#[test]
fn relayed_bytes_are_counted() {
    let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
    let origin = server.listening();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("a \"list\".txt");
    fs::write(&list, "192.0.2.0/24\n198.51.100.0/24\n").unwrap();
    let log = folder.path().join("log");
    let log = log.to_str().unwrap();
    let proxy = Proxy::start(&[
        "--blocklist",
        list.to_str().unwrap(),
        "--log",
        log,
        "--threads",
        "2",
    ]);
    let (head, _) = proxy.page("/metrics");
    assert!(
        head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{head}"
    );
    for series in [
        "connections_accepted_total",
        "connections_open",
        "connections_ended_total{ending=\"finished\"}",
        "requests_total{protocol=\"socks5\"}",
        "decisions_total{decision=\"blocked\"}",
        "relayed_bytes_total{to=\"client\"}",
        "list_reloads_total{outcome=\"failed\"}",
        "log_dropped_lines_total",
        "draining",
    ] {
        assert_eq!(proxy.value(series), 0.0, "{series}");
    }
    let entries = format!(
        "list_entries{{file=\"{}\"}}",
        list.to_str().unwrap().replace('"', "\\\"")
    );
    assert_eq!(proxy.value(&entries), 2.0);
    for _ in 0..3 {
        assert_eq!(
            response_to(proxy.address, envelope(origin, "ping").as_bytes()),
            "RESPONSE || ping"
        );
    }
    let blocked = "192.0.2.1:80".parse().unwrap();
    assert!(response_to(proxy.address, envelope(blocked, "").as_bytes()).contains("blocked"));
    let mut open = connect(proxy.address);
    write!(open, "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").unwrap();
    let mut head = [0; 12];
    open.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    for (series, value) in [
        ("connections_accepted_total", 5.0),
        ("connections_open", 1.0),
        ("connections_ended_total{ending=\"finished\"}", 3.0),
        ("connections_ended_total{ending=\"blocked\"}", 1.0),
        ("requests_total{protocol=\"json\"}", 4.0),
        ("decisions_total{decision=\"allowed\"}", 3.0),
        ("decisions_total{decision=\"blocked\"}", 1.0),
        ("relayed_bytes_total{to=\"server\"}", 12.0),
        ("log_lines_total", 4.0),
    ] {
        proxy.wait_for(series, value);
    }
    assert!(proxy.value("relayed_bytes_total{to=\"client\"}") >= 48.0);
    drop(open);
    proxy.wait_for("connections_open", 0.0);
}

#[test]
fn reloads_of_lists_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    fs::write(&list, "192.0.2.1\n").unwrap();
    let path = list.to_str().unwrap();
    let proxy = Proxy::start(&["--blocklist", path]);
    let before = proxy.value("list_last_success_time_seconds");
    assert!(before >= 1.7e9 && proxy.value("start_time_seconds") >= before);
    fs::write(&list, "192.0.2.1\n192.0.2.2\n").unwrap();
    proxy.program.signal("HUP");
    proxy.wait_for("list_reloads_total{outcome=\"ok\"}", 1.0);
    assert_eq!(
        proxy.value(&format!("list_entries{{file=\"{path}\"}}")),
        2.0
    );
    let after = proxy.value("list_last_success_time_seconds");
    assert!(after > before);
    fs::write(&list, "nonsense nonsense\n").unwrap();
    proxy.program.signal("HUP");
    proxy.wait_for("list_reloads_total{outcome=\"failed\"}", 1.0);
    assert_eq!(
        proxy.value(&format!("list_entries{{file=\"{path}\"}}")),
        2.0
    );
    assert_eq!(proxy.value("list_last_success_time_seconds"), after);
}

#[test]
fn health_is_good_until_the_proxy_drains() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().to_string();
    let proxy = Proxy::start(&["--forward", &to]);
    let (head, body) = proxy.page("/healthz");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, "ok\n");
    let client = connect(proxy.address);
    let open = server.accept().unwrap();
    proxy.program.signal("TERM");
    let deadline = Instant::now() + PATIENCE;
    let (head, body) = loop {
        let (head, body) = proxy.page("/healthz");
        if body != "ok\n" {
            break (head, body);
        }
        assert!(Instant::now() < deadline, "it is not reported as draining");
    };
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "draining\n");
    assert_eq!(proxy.value("draining"), 1.0);
    drop((client, open));
    proxy.program.wait(NOTICED).done();
}

#[test]
fn other_paths_are_not_found_and_idle_clients_delay_no_others() {
    let proxy = Proxy::start(&[]);
    let _idle: Vec<_> = (0..100).map(|_| connect(proxy.metrics)).collect();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("GET /metrics/x HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        ("HEAD /healthz HTTP/1.0\r\n\r\n", "200"),
    ] {
        let answer = response_to(proxy.metrics, request.as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[test]
fn clients_of_the_proxy_are_not_connected_to_its_metrics() {
    let proxy = Proxy::start(&[]);
    let answer = response_to(
        proxy.address,
        envelope(proxy.metrics, "GET /metrics HTTP/1.1\\r\\n\\r\\n").as_bytes(),
    );
    assert!(answer.starts_with("{\"error\": \"blocked\", "), "{answer}");
}

#[test]
fn an_address_in_use_is_reported_with_its_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let serve = |listen: &str, metrics: &str| {
        let args = ["proxy", "serve", "--listen", listen, "--metrics", metrics];
        let finished = bench(args);
        assert_eq!(finished.stdout, "");
        finished
    };
    serve("127.0.0.1:0", &taken).failed(3, &[&taken, "--metrics"]);
    serve("127.0.0.1:0", "nowhere").failed(2, &["nowhere"]);
}
