//! `bench proxy serve`: the replies to clients of every protocol, over real sockets.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::engine::{Engine, FORWARDINGS, on_both_engines, on_every_engine};
use crate::common::{Finished, NOTICED, PATIENCE, Running, start};
use socket2::SockRef;
use tempfile::NamedTempFile;

on_both_engines!(
    an_envelope_delivers_its_message_and_returns_the_whole_answer,
    bytes_behind_an_envelope_do_not_destroy_its_answer,
    a_client_that_disconnects_before_the_answer_closes_the_server,
    socks5_and_connect_open_a_tunnel_for_any_bytes,
    unknown_names_and_closed_ports_are_distinct_from_blocked_destinations,
    only_users_authenticate_by_socks5_and_connect,
    the_proxy_refuses_connections_to_itself,
    chained_proxies_pass_the_client_address_on,
    a_client_that_never_closes_is_cut_off,
    ipv6_clients_and_servers_are_served,
);

mod lists;
mod refused;

/// A proxy on loopback, and an origin server.
struct Proxy {
    program: Running,
    address: SocketAddr,
    origin: SocketAddr,
    _origin: Running,
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, more: &[&str]) -> Self {
        let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
        let origin = server.listening();
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let more = engine.options().chain(more.iter().copied());
        let mut program = start(fixed.into_iter().chain(more));
        let address = program.listening();
        Self {
            program,
            address,
            origin,
            _origin: server,
        }
    }

    fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends a request in pieces of this length. Returns the whole response.
    #[track_caller]
    fn response_to(&self, sent: &[u8], piece: usize) -> Vec<u8> {
        let mut client = self.client();
        for piece in sent.chunks(piece) {
            client.write_all(piece).unwrap();
        }
        rest(client)
    }

    #[track_caller]
    fn stop(self) -> Finished {
        self.program.signal("TERM");
        self.program.wait(NOTICED)
    }
}

#[track_caller]
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn envelope(to: impl std::fmt::Display, port: u16, message: &str) -> Vec<u8> {
    format!(r#"{{"server_ip": "{to}", "server_port": {port}, "message": "{message}"}}"#).into()
}

fn socks5(to: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!() };
    let mut bytes = vec![5, 1, 0, 5, 1, 0, 1];
    bytes.extend(to.ip().octets());
    bytes.extend(to.port().to_be_bytes());
    bytes
}

fn connect_to(to: impl std::fmt::Display) -> Vec<u8> {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").into()
}

fn list(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// An address without a listener.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn an_envelope_delivers_its_message_and_returns_the_whole_answer(engine: Engine) {
    for forwarding in FORWARDINGS {
        let proxy = Proxy::start(engine, &["--forwarding", forwarding]);
        let SocketAddr::V4(origin) = proxy.origin else {
            panic!()
        };
        let long = "x".repeat(300_000);
        for message in ["ping", "", "gr\\u00fc\\u00df \\\"dich\\\"\\n", &long] {
            let request = envelope(origin.ip(), origin.port(), message);
            let plain: String = serde_json::from_str(&format!("\"{message}\"")).unwrap();
            let expected = format!("RESPONSE || {plain}");
            for piece in [if message.len() > 1_000 { 9_999 } else { 1 }, usize::MAX] {
                let answer = String::from_utf8(proxy.response_to(&request, piece)).unwrap();
                assert!(answer == expected, "{} bytes by {piece}", answer.len());
            }
        }
        let finished = proxy.stop().done();
        assert!(
            finished.stdout.contains("connections 8, 8 finished"),
            "{}",
            finished.stdout
        );
    }
}

fn bytes_behind_an_envelope_do_not_destroy_its_answer(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let mut client = proxy.client();
    client
        .write_all(&envelope(to.ip(), to.port(), "ping"))
        .unwrap();
    let (mut served, _) = server.accept().unwrap();
    let mut received = Vec::new();
    served.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"ping");
    // Unread bytes would turn the proxy's close into a reset that destroys the answer.
    client.write_all(&[b'\n'; 10_000]).unwrap();
    served.write_all(&[b'a'; 100_000]).unwrap();
    drop(served);
    assert_eq!(rest(client), [b'a'; 100_000]);
    proxy.stop().done();
}

fn a_client_that_disconnects_before_the_answer_closes_the_server(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    for ends_first in [false, true] {
        let mut client = proxy.client();
        client
            .write_all(&envelope(to.ip(), to.port(), "ping"))
            .unwrap();
        if ends_first {
            client.shutdown(Shutdown::Write).unwrap();
        }
        let (mut served, _) = server.accept().unwrap();
        served.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        served.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"ping");
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        // The client sends before the server is connected, and receives an error.
        let deadline = Instant::now() + PATIENCE;
        while SockRef::from(&served).take_error().unwrap().is_none() {
            assert!(
                Instant::now() < deadline,
                "the server connection stays open"
            );
            std::thread::yield_now();
        }
    }
    let finished = proxy.stop().done();
    assert!(
        finished.stdout.contains("2 reset by the client"),
        "{}",
        finished.stdout
    );
}

fn socks5_and_connect_open_a_tunnel_for_any_bytes(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let requests = [
        (socks5(proxy.origin), 2 + 10),
        (
            connect_to(proxy.origin),
            b"HTTP/1.1 200 Connection established\r\n\r\n".len(),
        ),
        (
            connect_to(format!("localhost:{}", proxy.origin.port())),
            b"HTTP/1.1 200 Connection established\r\n\r\n".len(),
        ),
    ];
    for (request, reply) in requests {
        // Early data follows the request, with every split of both.
        let sent = [&request[..], b"early "].concat();
        for cut in (1..=sent.len()).step_by(3) {
            let mut client = proxy.client();
            client.write_all(&sent[..cut]).unwrap();
            client.write_all(&sent[cut..]).unwrap();
            client.write_all(b"late").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let answer = rest(client);
            let (_, answer) = answer.split_at(reply);
            assert_eq!(answer, b"RESPONSE || early late", "cut at {cut}");
        }
    }
    proxy.stop().done();
}

fn unknown_names_and_closed_ports_are_distinct_from_blocked_destinations(engine: Engine) {
    let blocked = list("127.0.0.9\n");
    let proxy = Proxy::start(engine, &["--blocklist", path(&blocked)]);
    let closed = closed_port();
    let json = |to: &str, port| proxy.response_to(&envelope(to, port, "ping"), usize::MAX);
    let line = |word: &str| format!("{{\"error\": \"{word}\", \"detail\": ");
    for (answer, word) in [
        (json("127.0.0.1", closed.port()), "unreachable"),
        (json("no-such-name.invalid", 80), "unreachable"),
        (json("127.0.0.9", 80), "blocked"),
        (json("::ffff:127.0.0.9", 80), "blocked"),
        (json("0177.0.0.1", 80), "bad_request"),
        (proxy.response_to(b"{}", 1), "bad_request"),
        (proxy.response_to(b"hello?", 1), "bad_request"),
    ] {
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&line(word)), "{answer}");
        assert!(answer.ends_with("}\n"), "{answer}");
        assert!(!answer.contains(path(&blocked)), "{answer}");
    }
    for (to, status) in [
        (closed.to_string(), 502),
        ("127.0.0.9:80".to_owned(), 403),
        ("127.1:80".to_owned(), 400),
    ] {
        let answer = String::from_utf8(proxy.response_to(&connect_to(&to), usize::MAX)).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{to}: {answer}"
        );
    }
    for (to, reply) in [(closed, 5), ("127.0.0.9:80".parse().unwrap(), 2)] {
        let answer = proxy.response_to(&socks5(to), usize::MAX);
        assert_eq!(answer[..4], [5, 0, 5, reply], "{to}");
    }
    proxy.stop().done();
}

fn only_users_authenticate_by_socks5_and_connect(engine: Engine) {
    let users = list("ann:secret\n");
    let proxy = Proxy::start(engine, &["--auth-file", path(&users)]);
    let to = &socks5(proxy.origin)[3..];
    let sign_in = |password: &[u8]| {
        let mut bytes = vec![5, 2, 0, 2, 1, 3];
        bytes.extend_from_slice(b"ann");
        bytes.push(password.len() as u8);
        bytes.extend_from_slice(password);
        bytes.extend_from_slice(to);
        bytes
    };
    let mut client = proxy.client();
    client
        .write_all(&[&sign_in(b"secret")[..], b"hi"].concat())
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let answer = rest(client);
    assert_eq!(answer[..6], [5, 2, 1, 0, 5, 0]);
    assert!(answer.ends_with(b"RESPONSE || hi"));
    let wrong = proxy.response_to(&sign_in(b"secreT"), usize::MAX);
    assert_eq!(wrong[..3], [5, 2, 1]);
    assert_ne!(wrong[3], 0);
    assert_eq!(
        proxy.response_to(&socks5(proxy.origin), usize::MAX),
        [5, 0xff]
    );
    let refused = proxy.response_to(&connect_to(proxy.origin), usize::MAX);
    assert!(refused.starts_with(b"HTTP/1.1 407 "));
    let to = proxy.origin;
    let basic = "YW5uOnNlY3JldA==";
    let mut client = proxy.client();
    let head = format!(
        "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nProxy-Authorization: Basic {basic}\r\n\r\nhi"
    );
    client.write_all(head.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(rest(client).ends_with(b"RESPONSE || hi"));
    let error = proxy.response_to(&envelope("127.0.0.1", 9, ""), usize::MAX);
    assert!(error.starts_with(b"{\"error\""), "{error:?}");
    proxy.stop().done();
}

fn the_proxy_refuses_connections_to_itself(engine: Engine) {
    let proxy = Proxy::start(engine, &["--dry-run"]);
    let port = proxy.address.port();
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
    ] {
        let answer = proxy.response_to(&envelope(host, port, "ping"), usize::MAX);
        assert!(
            answer.starts_with(b"{\"error\": \"blocked\""),
            "{host}: {answer:?}"
        );
    }
    let finished = proxy.stop().done();
    assert!(
        finished.stdout.contains("connections 4, 4 blocked"),
        "{}",
        finished.stdout
    );
}

fn chained_proxies_pass_the_client_address_on(engine: Engine) {
    for version in ["v1", "v2"] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        // The second proxy accepts the header of the first, and passes the client's address on unchanged.
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let fixed = || fixed.into_iter().chain(engine.options());
        let mut second =
            start(fixed().chain(["--forward", &*to, "--accept-proxy", "--send-proxy", "v1"]));
        let middle = second.listening().to_string();
        let mut first = start(fixed().chain(["--forward", &*middle, "--send-proxy", version]));
        let front = first.listening();
        let mut client = TcpStream::connect(front).unwrap();
        let own = client.local_addr().unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (served, _) = server.accept().unwrap();
        let expected = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello",
            own.port(),
            front.port()
        );
        assert_eq!(String::from_utf8(rest(served)).unwrap(), expected);
        // A client without a header is not trusted as a proxy.
        let mut untrusted = TcpStream::connect(&middle).unwrap();
        untrusted.set_read_timeout(Some(PATIENCE)).unwrap();
        untrusted.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let error = untrusted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

fn a_client_that_never_closes_is_cut_off(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let mut client = proxy.client();
    client.write_all(b"nonsense").unwrap();
    let mut received = String::new();
    client.read_to_string(&mut received).unwrap();
    assert!(received.starts_with("{\"error\": \"bad_request\""));
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        if let Err(error) = client.write_all(&[0; 1_000]) {
            break error;
        }
        assert!(Instant::now() < deadline, "it is listened to for ever");
        std::thread::yield_now();
    };
    assert!(matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
    proxy.stop().done();
}

fn ipv6_clients_and_servers_are_served(engine: Engine) {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("skipped: this host has no IPv6");
        return;
    };
    let to = listener.local_addr().unwrap();
    let fixed = ["proxy", "serve", "--listen", "[::1]:0"];
    let mut program = start(fixed.into_iter().chain(engine.options()));
    let address = program.listening();
    assert!(address.is_ipv6());
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&connect_to(to)).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut received = [0; 4];
    served.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"ping");
    drop(served);
    assert!(rest(client).starts_with(b"HTTP/1.1 200 "));
}
