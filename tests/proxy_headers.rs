//! `bench proxy serve --accept-proxy --send-proxy`: what of the header that comes is in the header that the server gets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use common::engine::{Engine, on_both_engines, on_every_engine};
use common::{PATIENCE, Running, start};

on_both_engines!(
    fields_reach_the_server_however_they_come,
    a_checksum_is_made_anew,
    each_version_becomes_the_other,
    paths_and_senders_that_speak_for_themselves,
    a_header_that_is_wrong_gets_no_server,
);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// An endpoint id as clouds send it, the name that TLS asked for, and padding.
const FIELDS: &[u8] = b"\xea\0\x0b\x01vpce-01234\x02\0\x09a.example\x04\0\x02xx\xe2\0\0";
const WITHOUT_PADDING: &[u8] = b"\xea\0\x0b\x01vpce-01234\x02\0\x09a.example\xe2\0\0";
/// 203.0.113.9:1234 to 203.0.113.1:443.
const ENDS: &[u8] = b"\xcb\0\x71\x09\xcb\0\x71\x01\x04\xd2\x01\xbb";

fn header(command: u8, family: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, &body].concat()
}

struct Proxy {
    _program: Running,
    address: SocketAddr,
    server: TcpListener,
}

impl Proxy {
    #[track_caller]
    fn start(engine: Engine, version: &str) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        let fixed = [
            "proxy",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--accept-proxy",
        ];
        let more = ["--forward", &to, "--send-proxy", version];
        let mut program = start(fixed.into_iter().chain(engine.options()).chain(more));
        let address = program.listening();
        Self {
            _program: program,
            address,
            server,
        }
    }

    /// All that the server gets of a client that says this, in pieces of so many bytes, and the client's address.
    #[track_caller]
    fn passes(&self, said: &[u8], piece: usize) -> (Vec<u8>, SocketAddr) {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_nodelay(true).unwrap();
        for piece in said.chunks(piece) {
            client.write_all(piece).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let (mut served, _) = self.server.accept().unwrap();
        served.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        served.read_to_end(&mut heard).unwrap();
        (heard, client.local_addr().unwrap())
    }
}

fn fields_reach_the_server_however_they_come(engine: Engine) {
    let proxy = Proxy::start(engine, "v2");
    let came = [&header(0x21, 0x11, &[ENDS, FIELDS])[..], b"hi"].concat();
    let expected = [&header(0x21, 0x11, &[ENDS, WITHOUT_PADDING])[..], b"hi"].concat();
    for piece in [1, 17, usize::MAX] {
        assert_eq!(proxy.passes(&came, piece).0, expected);
    }
    let long = [&[0xEA, 0xF0, 0][..], &vec![7; 0xF000]].concat();
    let came = [&header(0x21, 0x11, &[ENDS, &long])[..], b"hi"].concat();
    assert!(proxy.passes(&came, 9_999).0 == came);
}

/// RFC 3720, B.4, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

fn a_checksum_is_made_anew(engine: Engine) {
    let proxy = Proxy::start(engine, "v2");
    let sum = |fields: [&[u8]; 2]| {
        let [before, behind] = fields;
        let field = [3, 0, 4, 0, 0, 0, 0];
        let mut bytes = header(0x21, 0x11, &[ENDS, before, &field, behind]);
        let at = 16 + ENDS.len() + before.len() + 3;
        let sum = crc32c(&bytes).to_be_bytes();
        bytes[at..at + 4].copy_from_slice(&sum);
        bytes
    };
    // Wherever it was, it comes last.
    for came in [sum([FIELDS, b""]), sum([b"", FIELDS])] {
        let (heard, _) = proxy.passes(&came, usize::MAX);
        assert_eq!(heard, sum([WITHOUT_PADDING, b""]));
    }
}

fn each_version_becomes_the_other(engine: Engine) {
    let line = b"PROXY TCP4 203.0.113.9 203.0.113.1 1234 443\r\nhi";
    let plain = [&header(0x21, 0x11, &[ENDS])[..], b"hi"].concat();
    let second = Proxy::start(engine, "v2");
    assert_eq!(second.passes(line, 1).0, plain);
    let first = Proxy::start(engine, "v1");
    let came = [&header(0x21, 0x11, &[ENDS, FIELDS])[..], b"hi"].concat();
    for came in [&came[..], &plain, line] {
        assert_eq!(first.passes(came, usize::MAX).0, line);
    }
}

fn paths_and_senders_that_speak_for_themselves(engine: Engine) {
    let mut paths = [0; 216];
    paths[108..120].copy_from_slice(b"/run/app.soc");
    let unix = [&header(0x21, 0x31, &[&paths, WITHOUT_PADDING])[..], b"hi"].concat();
    let second = Proxy::start(engine, "v2");
    assert_eq!(second.passes(&unix, usize::MAX).0, unix);
    let first = Proxy::start(engine, "v1");
    assert_eq!(first.passes(&unix, usize::MAX).0, b"PROXY UNKNOWN\r\nhi");
    // A health check: what its header says counts for nothing, and the sender is the client.
    for came in [
        header(0x20, 0x00, &[]),
        header(0x20, 0x11, &[ENDS, FIELDS]),
        header(0x21, 0x00, &[FIELDS]),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
    ] {
        let came = [&came[..], b"hi"].concat();
        let (heard, client) = first.passes(&came, usize::MAX);
        let (from, to) = (client.port(), first.address.port());
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nhi");
        assert_eq!(String::from_utf8(heard).unwrap(), line);
    }
}

fn a_header_that_is_wrong_gets_no_server(engine: Engine) {
    let proxy = Proxy::start(engine, "v2");
    proxy.server.set_nonblocking(true).unwrap();
    for came in [
        header(0x21, 0x11, &[ENDS, b"\xea\0\x09short"]),
        header(0x21, 0x11, &[ENDS, b"\xea\0"]),
        header(0x21, 0x11, &[ENDS, &[3, 0, 4, 1, 2, 3, 4]]),
        header(0x21, 0x12, &[ENDS]),
        header(0x22, 0x11, &[ENDS]),
        header(0x21, 0x11, &[ENDS, &[0xEA, 0xFF, 0xF0], &[7; 0xFFF0]]),
    ] {
        let mut client = TcpStream::connect(proxy.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = client.write_all(&came);
        // Nobody is told anything: whoever it is, it is no proxy that is trusted.
        let mut heard = Vec::new();
        let _ = client.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    }
    assert!(proxy.server.accept().is_err(), "a server was asked");
}
