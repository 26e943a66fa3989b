//! `bench proxy serve`: the responses to HTTP clients and to those of other protocols, in their own protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{PATIENCE, Running, start};

on_both_engines!(
    connect_requests_of_real_clients_open_a_tunnel,
    a_connect_request_with_a_body_is_refused,
    other_methods_get_a_page_with_instructions,
    clients_of_other_protocols_are_refused_in_them,
);

struct Proxy {
    address: SocketAddr,
    origin: SocketAddr,
    _programs: [Running; 2],
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, more: &[&str]) -> Self {
        let mut server = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
        let origin = server.listening();
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:0"];
        let mut program = start(
            fixed
                .into_iter()
                .chain(engine.options())
                .chain(more.iter().copied()),
        );
        Self {
            address: program.listening(),
            origin,
            _programs: [program, server],
        }
    }

    /// Sends a request in pieces of this length. Returns the whole response.
    #[track_caller]
    fn answer(&self, sent: &[u8], piece: usize) -> Vec<u8> {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        for piece in sent.chunks(piece) {
            // It may be refused before all is sent.
            let _ = client.write_all(piece);
        }
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    }

    /// The response as text, which has a complete head and a body of the length in it.
    #[track_caller]
    fn refusal(&self, sent: &str) -> String {
        let answer = String::from_utf8(self.answer(sent.as_bytes(), usize::MAX)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nConnection: close"), "{answer}");
        assert!(
            head.contains(&format!("\r\nContent-Length: {}", body.len())),
            "{answer}"
        );
        answer
    }
}

fn connect_requests_of_real_clients_open_a_tunnel(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let to = proxy.origin;
    let long = "x".repeat(60_000);
    for request in [
        format!("CONNECT {to} HTTP/1.0\r\n\r\n"),
        format!(
            "CONNECT {to} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nProxy-Connection: Keep-Alive\r\n\r\n"
        ),
        format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: curl/8\r\nProxy-Connection: Keep-Alive\r\n\r\n"
        ),
        format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"
        ),
        format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\nCookie: {long}\r\n\r\n"),
        format!("\r\nCONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"),
        format!("\r\n\r\nCONNECT {to} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 0\r\n\r\n"),
    ] {
        for piece in [if request.len() > 1_000 { 999 } else { 1 }, usize::MAX] {
            let answer = proxy.answer(format!("{request}hi").as_bytes(), piece);
            let answer = String::from_utf8(answer).unwrap();
            let expected = "HTTP/1.1 200 Connection established\r\n\r\nRESPONSE || hi";
            assert_eq!(answer, expected, "{request:.200}");
        }
    }
}

fn a_connect_request_with_a_body_is_refused(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let to = proxy.origin;
    for field in [
        "Content-Length: 1",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{field}\r\n\r\nhello");
        let answer = proxy.refusal(&request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{field}: {answer}");
    }
}

fn other_methods_get_a_page_with_instructions(engine: Engine) {
    let proxy = Proxy::start(engine, &["--protocol", "socks5,connect"]);
    for request in [
        "GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nProxy-Connection: Keep-Alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost:3128\r\nUser-Agent: Mozilla/5.0\r\n\r\n",
        "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b",
    ] {
        let answer = proxy.refusal(request);
        assert!(
            answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{answer}"
        );
        for words in [
            "\r\nAllow: CONNECT\r\n",
            "This is a proxy for HTTP CONNECT and SOCKS5 requests",
            "curl: --proxytunnel",
        ] {
            assert!(answer.contains(words), "no {words}: {answer}");
        }
    }
    for (request, status) in [
        ("connect 127.0.0.1:9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("Connect 127.0.0.1:9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("get http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ] {
        let answer = proxy.refusal(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
}

fn clients_of_other_protocols_are_refused_in_them(engine: Engine) {
    for protocols in ["json,socks5,connect", "socks5", "json", "connect"] {
        let proxy = Proxy::start(engine, &["--protocol", protocols]);
        for request in [
            &b"\x04\x01\0\x50\x7f\0\0\x01me\0"[..],
            b"\x04\x01\0\x50\0\0\0\x01\0a.example\0",
        ] {
            for piece in [1, usize::MAX] {
                let reply = proxy.answer(request, piece);
                assert_eq!(reply, [0, 0x5b, 0, 0, 0, 0, 0, 0], "{protocols}");
            }
        }
        let answer = proxy.refusal("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 40"), "{protocols}: {answer}");
    }
    // A TLS client shows "wrong version number", and a packet capture shows why.
    let proxy = Proxy::start(engine, &[]);
    let answer = proxy.answer(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", usize::MAX);
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("TLS"),
        "{answer}"
    );
}
