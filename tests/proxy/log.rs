//! `bench proxy serve --log`: one line for every connection, however it was closed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};

use crate::common::{NOTICED, PATIENCE, Running, bench, start, until};
use serde_json::{Value, json};
use socket2::SockRef;
use tempfile::TempDir;

on_both_engines!(
    every_closed_connection_has_its_line,
    connections_cut_off_at_the_end_are_logged,
    a_client_over_the_limit_has_its_line,
);

/// A proxy with a log, and an origin server.
struct Proxy {
    program: Running,
    address: SocketAddr,
    origin: SocketAddr,
    _origin: Running,
    folder: TempDir,
}

impl Proxy {
    #[track_caller]
    fn on(engine: Engine, more: &[&str]) -> Self {
        let more: Vec<&str> = engine.options().chain(more.iter().copied()).collect();
        Self::start(&more)
    }

    #[track_caller]
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
        let origin = server.listening();
        let list = folder.path().join("list.txt");
        fs::write(&list, "# no name\n192.0.2.0/24\n").unwrap();
        let log = folder.path().join("access.log");
        let (log, list) = (log.to_str().unwrap(), list.to_str().unwrap());
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let files = ["--log", log, "--blocklist", list];
        let mut program = start(fixed.iter().chain(&files).chain(more));
        let address = program.listening();
        Self {
            program,
            address,
            origin,
            _origin: server,
            folder,
        }
    }

    fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client that is connected to the server.
    #[track_caller]
    fn open(&self) -> TcpStream {
        let mut client = self.client();
        client
            .write_all(connect_to(self.origin).as_bytes())
            .unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        client
    }

    /// Sends a request and reads the whole response. Returns the client's address.
    #[track_caller]
    fn exchange(&self, sent: &[u8]) -> SocketAddr {
        let mut client = self.client();
        let from = client.local_addr().unwrap();
        client.write_all(sent).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
        from
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        // The last line may be incomplete.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until there are so many lines.
    #[track_caller]
    fn wait_for(&self, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        until(&format!("{count} lines are logged"), || {
            lines = self.lines();
            lines.len() >= count
        });
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    #[track_caller]
    fn stop(&self) {
        self.program.signal("TERM");
        let deadline = Instant::now() + NOTICED;
        while TcpStream::connect(self.address).is_ok() {
            assert!(Instant::now() < deadline);
        }
    }
}

fn envelope(to: impl std::fmt::Display, port: u16, message: &str) -> Vec<u8> {
    json!({"server_ip": to.to_string(), "server_port": port, "message": message})
        .to_string()
        .into()
}

fn connect_to(to: SocketAddr) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")
}

#[track_caller]
fn assert_has(line: &Value, expected: Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key} of {line:#}");
    }
}

fn every_closed_connection_has_its_line(engine: Engine) {
    {
        let proxy = Proxy::on(engine, &["--request-timeout", "300ms"]);
        let origin = proxy.origin;
        let list = proxy.folder.path().join("list.txt");
        let mut count = 0;
        let mut line = |from: SocketAddr, expected: Value| {
            count += 1;
            let line = proxy.wait_for(count).pop().unwrap();
            assert_has(&line, expected);
            assert_eq!(line["peer"], from.to_string());
            assert_eq!(line["client"], from.to_string());
            assert!(line["seconds"].as_f64().unwrap() < 20.0);
            let time = line["time"].as_str().unwrap();
            assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
            line
        };
        let from = proxy.exchange(&envelope(origin.ip(), origin.port(), "ping"));
        let finished = line(
            from,
            json!({
                "protocol": "json", "asked": origin.to_string(), "server": origin.to_string(), "decision": "allowed",
                "entry": null, "to_server": 4, "to_client": 16, "ended": "finished", "detail": null
            }),
        );
        assert!(finished["connect_seconds"].as_f64() <= finished["seconds"].as_f64());
        let from = proxy.exchange(&envelope("192.0.2.7", 80, "ping"));
        line(
            from,
            json!({
                "protocol": "json", "asked": "192.0.2.7:80", "server": null, "decision": "blocked",
                "entry": format!("{}:2 (192.0.2.0/24)", list.display()), "to_server": 0, "ended": "blocked",
                "connect_seconds": null
            }),
        );
        let from = proxy.exchange(b"\x7f\nHello\r\n\r\n");
        let refused = line(
            from,
            json!({"protocol": null, "asked": null, "decision": null, "ended": "refused"}),
        );
        assert!(refused["detail"].is_string(), "{refused:#}");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = closed.local_addr().unwrap();
        drop(closed);
        let from = proxy.exchange(connect_to(to).as_bytes());
        line(
            from,
            json!({
                "protocol": "connect", "asked": to.to_string(), "server": to.to_string(), "decision": "allowed",
                "ended": "unreachable", "connect_seconds": null
            }),
        );
        let client = proxy.client();
        let from = client.local_addr().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        line(from, json!({"protocol": null, "ended": "left"}));
        let from = proxy.exchange(b"CONNECT ");
        let slow = line(from, json!({"ended": "request_timeout"}));
        assert!(slow["seconds"].as_f64().unwrap() >= 0.3, "{slow:#}");
        let client = proxy.open();
        let from = client.local_addr().unwrap();
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        line(
            from,
            json!({"protocol": "connect", "ended": "client_reset"}),
        );
        proxy.stop();
    }
}

fn connections_cut_off_at_the_end_are_logged(engine: Engine) {
    let proxy = Proxy::on(engine, &["--drain-timeout", "100ms"]);
    let clients: Vec<_> = (0..20).map(|_| proxy.open()).collect();
    proxy.program.signal("TERM");
    let finished = proxy.program.wait(NOTICED).done();
    drop(clients);
    assert!(
        finished.stdout.contains("20 cut off"),
        "{}",
        finished.stdout
    );
    let text = fs::read_to_string(proxy.folder.path().join("access.log")).unwrap();
    let ended = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["ended"].as_str().unwrap().to_owned()
    });
    assert_eq!(ended.collect::<Vec<_>>(), ["stopped"; 20]);
}

#[test]
fn a_dry_run_logs_blocked_destinations_and_a_header_names_the_client() {
    let proxy = Proxy::start(&["--dry-run", "--accept-proxy", "--connect-timeout", "100ms"]);
    let mut sent = b"PROXY TCP4 198.51.100.7 203.0.113.1 1234 80\r\n".to_vec();
    sent.extend(envelope("192.0.2.7", 80, "ping"));
    let peer = proxy.exchange(&sent);
    let line = proxy.wait_for(1).pop().unwrap();
    assert_has(
        &line,
        json!({
            "client": "198.51.100.7:1234", "peer": peer.to_string(), "decision": "would_block",
            "asked": "192.0.2.7:80", "server": "192.0.2.7:80"
        }),
    );
    assert!(
        line["entry"]
            .as_str()
            .unwrap()
            .ends_with("list.txt:2 (192.0.2.0/24)")
    );
}

fn a_client_over_the_limit_has_its_line(engine: Engine) {
    let proxy = Proxy::on(engine, &["--max-connections", "1"]);
    let _first = proxy.open();
    let from = proxy.exchange(connect_to(proxy.origin).as_bytes());
    let line = proxy.wait_for(1).pop().unwrap();
    assert_has(&line, json!({"ended": "busy", "peer": from.to_string()}));
}

#[test]
fn a_renamed_log_is_reopened_by_sighup() {
    let proxy = Proxy::start(&[]);
    let ask = || proxy.exchange(&envelope(proxy.origin.ip(), proxy.origin.port(), "x"));
    ask();
    proxy.wait_for(1);
    let moved = proxy.folder.path().join("access.log.1");
    fs::rename(proxy.path(), &moved).unwrap();
    proxy.program.signal("HUP");
    until("the log is reopened", || proxy.path().exists());
    ask();
    ask();
    proxy.wait_for(2);
    assert_eq!(fs::read_to_string(moved).unwrap().lines().count(), 1);
}

/// A proxy that logs to a pipe, with the address that it printed on standard error.
fn on_stdout(more: &[&str]) -> (Child, SocketAddr, BufReader<impl Read>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["proxy", "serve", "--listen", "127.0.0.1:0", "--log", "-"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(program.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let address = line.strip_prefix("listening on ").unwrap().trim_end();
    (program, address.parse().unwrap(), errors)
}

fn end(program: &Child) {
    let command = format!("kill -TERM {}", program.id());
    assert!(
        Command::new("sh")
            .args(["-c", &command])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn standard_output_has_the_log_only() {
    let (mut program, address, mut errors) = on_stdout(&[]);
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"nonsense\n").unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    end(&program);
    let mut text = String::new();
    program
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(program.wait().unwrap().success());
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines.iter().all(|line| line["ended"] == "refused"),
        "{text}"
    );
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("connections 3, 3 refused\n"), "{rest}");
}

#[test]
fn a_log_reader_that_stops_or_leaves_does_not_stop_the_proxy() {
    for leaves in [true, false] {
        let (mut program, address, mut errors) = on_stdout(&["--quiet"]);
        if leaves {
            drop(program.stdout.take());
        }
        // More than a pipe contains.
        let ask = || {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"nonsense\n").unwrap();
            let mut reply = Vec::new();
            let _ = client.read_to_end(&mut reply);
            assert!(reply.starts_with(b"{\"error\": "), "{reply:?}");
        };
        (0..400).for_each(|_| ask());
        end(&program);
        assert!(program.wait().unwrap().success());
        let mut text = String::new();
        errors.read_to_string(&mut text).unwrap();
        if leaves {
            assert!(text.contains("Broken pipe"), "{text}");
            assert!(
                text.contains("400 connections or flows are missing"),
                "{text}"
            );
            assert_eq!(text.lines().count(), 2, "{text}");
        } else {
            assert!(text.contains("the access log is no longer read"), "{text}");
        }
    }
}

#[test]
fn a_full_disk_is_reported_once_and_lines_are_counted() {
    let fixed = [
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "/dev/full",
    ];
    let mut program = start(fixed);
    let address = program.listening();
    for _ in 0..5 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"nonsense\n").unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    program.signal("TERM");
    let finished = program.wait(NOTICED);
    assert_eq!(finished.code, Some(0));
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", finished.stderr);
    assert!(lines[0].contains("No space left"), "{}", lines[0]);
    assert!(
        lines[1].contains("5 connections or flows are missing"),
        "{}",
        lines[1]
    );
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_before_clients_are_served() {
    for path in ["/", "/no/such/folder/log"] {
        let args = ["proxy", "serve", "--listen", "127.0.0.1:0", "--log", path];
        let finished = bench(args).failed(3, &[path, "--log"]);
        assert_eq!(finished.stdout, "");
    }
}
