//! `bench proxy send` with proxies that a test plays: its requests, and its output for their responses.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, bench, start};
use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

/// A proxy for one client, in a thread.
struct Played<T> {
    address: SocketAddr,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Played<T> {
    fn new(role: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            role(stream)
        });
        Self { address, thread }
    }

    fn over(self) -> T {
        self.thread.join().unwrap()
    }
}

/// Reads the request, which ends with its line, and sends this.
fn answers(answer: &'static [u8]) -> Played<Value> {
    Played::new(move |mut stream| {
        let request = request(&mut stream);
        stream.write_all(answer).unwrap();
        request
    })
}

fn request(stream: &mut TcpStream) -> Value {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    serde_json::from_slice(&line).unwrap()
}

fn command(proxy: SocketAddr, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let proxy = proxy.to_string();
    command.args(["proxy", "send", "--proxy", &proxy]);
    command.args(more).stdin(Stdio::null());
    command
}

/// Sends `ping` to an address that does not matter.
fn send(proxy: SocketAddr, more: &[&str]) -> Output {
    let fixed = ["--server", "127.0.0.1:9000", "ping"];
    let mut command = command(proxy, &fixed);
    command.args(more).output().unwrap()
}

/// The exit code, the output, and the error message if there is one.
#[track_caller]
fn outcome_of(output: &Output) -> (Option<i32>, &[u8], &str) {
    let sentence = std::str::from_utf8(&output.stderr).unwrap();
    assert!(sentence.lines().count() <= 1, "{sentence}");
    (output.status.code(), &output.stdout, sentence.trim_end())
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, stdout: &[u8], words: &[&str]) {
    let (exit, printed, sentence) = outcome_of(output);
    assert_eq!((exit, printed), (Some(code), stdout), "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "no '{word}' in: {sentence}");
    }
}

#[test]
fn the_answer_is_printed_unchanged() {
    for answer in [
        &b"RESPONSE || ping"[..],
        b"line\n",
        b"{\"not\": \"an error\"}\n",
        b"RESPONSE || {\"error\": \"blocked\", \"detail\": \"no\"}\n",
        b"{\"error\": \"blocked\", \"detail\": \"no\"}",
        b"\x00\xff\x1b[31m\r\n\n",
    ] {
        let proxy = answers(answer);
        let output = send(proxy.address, &[]);
        assert_eq!(outcome_of(&output), (Some(0), answer, ""));
        assert_eq!(
            proxy.over(),
            json!({"server_ip": "127.0.0.1", "server_port": 9000, "message": "ping"})
        );
    }
}

#[test]
fn message_and_server_are_sent_as_given() {
    let long = "ß\"\\\n".repeat(20_000);
    for (server, ip, port, text) in [
        ("[::1]:1", "::1", 1, ""),
        ("Example.test:65535", "example.test", 65_535, "two words"),
        ("localhost:80", "localhost", 80, "grüß \"dich\"\n\u{1}"),
        ("10.0.0.1:443", "10.0.0.1", 443, long.as_str()),
    ] {
        let proxy = answers(b"ok");
        let output = command(proxy.address, &["--server", server, text])
            .output()
            .unwrap();
        assert_eq!(outcome_of(&output), (Some(0), &b"ok"[..], ""));
        assert_eq!(
            proxy.over(),
            json!({"server_ip": ip, "server_port": port, "message": text})
        );
    }
}

#[test]
fn a_long_answer_is_printed_completely() {
    let answer: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (first, second) = (answer.clone(), [b"{", answer.as_slice()].concat());
    for expected in [first, second] {
        let said_by_it = expected.clone();
        let proxy = Played::new(move |mut stream| {
            request(&mut stream);
            stream.write_all(&said_by_it).unwrap();
        });
        let output = send(proxy.address, &[]);
        assert!(output.stdout == expected);
        assert_eq!(output.status.code(), Some(0));
        proxy.over();
    }
}

#[test]
fn a_refusal_by_the_proxy_is_one_sentence() {
    for (line, words) in [
        (
            &b"{\"error\": \"blocked\", \"detail\": \"127.0.0.0/8 in list.txt, line 3\"}\n"[..],
            ["127.0.0.0/8 in list.txt, line 3", "(blocked)"],
        ),
        (
            b"{\"error\": \"unreachable\", \"detail\": \"the server refused\"}\n",
            ["the server refused", "(unreachable)"],
        ),
        (
            b"{\"error\": \"busy\", \"detail\": \"a\\nb\\u001b[2Jc\"}\n",
            ["a\\nb\\u{1b}[2Jc", "(busy)"],
        ),
    ] {
        let proxy = answers(line);
        let address = proxy.address.to_string();
        let output = send(proxy.address, &[]);
        assert_fails(&output, 1, b"", &words);
        assert_fails(&output, 1, b"", &[&address, "127.0.0.1:9000"]);
        proxy.over();
    }
}

#[test]
fn a_refusal_is_shown_although_the_proxy_does_not_read_and_resets_or_stays_open() {
    const LINE: &[u8] = b"{\"error\": \"too_large\", \"detail\": \"enough\"}\n";
    let long = "\u{1}".repeat(120_000);
    for (hangs_up, limit) in [(true, "30s"), (false, "300ms")] {
        let proxy = Played::new(move |mut stream| {
            stream.write_all(LINE).unwrap();
            if !hangs_up {
                // Until the client gives up.
                while stream.read(&mut [0; 4_096]).is_ok_and(|bytes| bytes > 0) {}
            }
        });
        let args = ["--server", "127.0.0.1:9", "--timeout", limit, &long];
        let output = command(proxy.address, &args).output().unwrap();
        assert_fails(&output, 1, b"", &["enough", "(too_large)"]);
        proxy.over();
    }
}

#[test]
fn a_proxy_that_refuses_connections_is_named() {
    // Bound but not listening: the port is taken, and connections to it are refused.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    taken.bind(&any.into()).unwrap();
    let closed = taken.local_addr().unwrap().as_socket().unwrap();
    let words = [&closed.to_string(), "refused", "bench proxy serve"];
    assert_fails(&send(closed, &[]), 3, b"", &words);
}

#[test]
fn a_silent_proxy_is_an_error() {
    let proxy = answers(b"");
    assert_fails(&send(proxy.address, &[]), 3, b"", &["without an answer"]);
    proxy.over();
}

#[test]
fn a_truncated_answer_is_shown_and_is_an_error() {
    for part in [&b"RESPONSE || pi"[..], b"{\"error\": \"blo"] {
        let proxy = Played::new(move |mut stream| {
            request(&mut stream);
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            // On loopback it arrives before the reset.
            stream.write_all(part).unwrap();
        });
        let bytes = format!("{} bytes", part.len());
        assert_fails(&send(proxy.address, &[]), 3, part, &["broke", &bytes]);
        proxy.over();
    }
}

#[test]
fn the_timeout_covers_silence_and_slow_answers() {
    let silent = Played::new(|mut stream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    });
    let begin = Instant::now();
    let output = send(silent.address, &["--timeout", "200ms"]);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_fails(&output, 3, b"", &["200ms", "0 bytes", "--timeout"]);
    silent.over();
    let trickle = Played::new(|mut stream| {
        // Its delay makes it slow: one byte in each.
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        loop {
            match stream.read(&mut [0; 4_096]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(bytes) if bytes > 0 => continue,
                _ => return,
            }
            if stream.write_all(b".").is_err() {
                return;
            }
        }
    });
    let output = send(trickle.address, &["--timeout", "500ms"]);
    let (code, printed, sentence) = outcome_of(&output);
    assert_eq!(code, Some(3));
    assert!(!printed.is_empty() && printed.iter().all(|byte| *byte == b'.'));
    assert!(sentence.contains("500ms"), "{sentence}");
    trickle.over();
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let proxy = answers(b"RESPONSE || ping");
    let mut full = command(proxy.address, &["--server", "127.0.0.1:9", "ping"]);
    full.stdout(File::options().write(true).open("/dev/full").unwrap());
    let output = full.output().unwrap();
    assert_fails(&output, 3, b"", &["standard output", "No space left"]);
    proxy.over();
    let proxy = answers(b"RESPONSE || ping");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut gone = command(proxy.address, &["--server", "127.0.0.1:9", "ping"]);
    let output = gone.stdout(writer).output().unwrap();
    assert_eq!(outcome_of(&output), (Some(0), &b""[..], ""));
    proxy.over();
}

#[test]
fn a_terminal_gets_a_newline_if_the_answer_has_none() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no script(1) here, which would lend a terminal");
        return;
    }
    for answer in [&b"no newline"[..], b"a newline\n"] {
        let proxy = answers(answer);
        let line = format!(
            "{} proxy send --proxy {} --server 127.0.0.1:9 ping",
            env!("CARGO_BIN_EXE_bench"),
            proxy.address
        );
        let mut script = Command::new("script");
        let output = script
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let answer = std::str::from_utf8(answer).unwrap().trim_end();
        assert_eq!(text, format!("{answer}\r\n"));
        proxy.over();
    }
}

#[test]
fn through_bench_proxy_serve_a_message_is_answered_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "192.0.2.0/24\n").unwrap();
    let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0"]);
    let origin = server.listening();
    let list = list.to_str().unwrap();
    let mut serving = start([
        "proxy",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--blocklist",
        list,
    ]);
    let proxy = serving.listening();
    let send = |server: &str, text: &str| {
        command(proxy, &["--server", server, text])
            .output()
            .unwrap()
    };
    let address = origin.to_string();
    let by_name = format!("localhost:{}", origin.port());
    for (to, text) in [(&address, "ping"), (&by_name, "grüß\ndich"), (&address, "")] {
        let answer = format!("RESPONSE || {text}");
        assert_eq!(
            outcome_of(&send(to, text)),
            (Some(0), answer.as_bytes(), "")
        );
    }
    server.line(|line| line.ends_with(": ping"));
    server.line(|line| line.ends_with(r": grüß\ndich"));
    let blocked = send("192.0.2.1:80", "ping");
    assert_fails(&blocked, 1, b"", &["192.0.2.1:80", "(blocked)"]);
    let itself = send(&proxy.to_string(), "ping");
    assert_fails(&itself, 1, b"", &["(blocked)"]);
    drop(server);
    assert_fails(&send(&address, "ping"), 1, b"", &["(unreachable)"]);
}

#[test]
fn invalid_options_are_refused_by_name() {
    let with = |args: &[&str]| bench(["proxy", "send"].iter().chain(args));
    for (proxy, server, named) in [
        ("127.0.0.1:0", "127.0.0.1:9", "127.0.0.1:0"),
        ("nowhere", "127.0.0.1:9", "nowhere"),
        ("127.0.0.1:1", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:1", "127.0.0.1:0", "\"0\" is not a port"),
        ("127.0.0.1:1", "127.1:80", "127.1"),
        ("127.0.0.1:1", "::1:80", "brackets"),
        ("127.0.0.1:1", "a b:80", "a b"),
        ("127.0.0.1:1", ":80", "the host is empty"),
    ] {
        with(&["--proxy", proxy, "--server", server, "x"]).failed(2, &[named]);
    }
    let both = ["--proxy", "127.0.0.1:1", "--server", "127.0.0.1:9"];
    let more = |more: &[&str]| with(&[&both, more].concat());
    more(&[]).failed(2, &["TEXT"]);
    more(&["x", "--timeout", "0s"]).failed(2, &["'0s'", "30s"]);
    more(&["x", "--timeout", "soon"]).failed(2, &["soon"]);
    with(&["x", "--server", "127.0.0.1:9"]).failed(2, &["--proxy"]);
    with(&["x", "--proxy", "127.0.0.1:1"]).failed(2, &["--server"]);
}
