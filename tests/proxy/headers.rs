//! `bench proxy serve --accept-proxy --send-proxy`: the parts of a client's header that the server receives.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{PATIENCE, Running, start};

on_both_engines!(
    fields_reach_the_server_in_any_pieces,
    a_checksum_is_recomputed,
    each_version_is_converted_to_the_other,
    paths_and_local_headers_are_passed_on,
    an_invalid_header_is_refused,
);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// An endpoint id as clouds send it, the server name of TLS, and padding.
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

    /// Sends a request in pieces of this length. Returns all that the server receives, and the client's address.
    #[track_caller]
    fn passes(&self, sent: &[u8], piece: usize) -> (Vec<u8>, SocketAddr) {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_nodelay(true).unwrap();
        for piece in sent.chunks(piece) {
            client.write_all(piece).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let (mut served, _) = self.server.accept().unwrap();
        served.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        served.read_to_end(&mut received).unwrap();
        (received, client.local_addr().unwrap())
    }
}

fn fields_reach_the_server_in_any_pieces(engine: Engine) {
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

/// RFC 3720, B.4, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

fn a_checksum_is_recomputed(engine: Engine) {
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
    // It comes last, wherever it was.
    for came in [sum([FIELDS, b""]), sum([b"", FIELDS])] {
        let (received, _) = proxy.passes(&came, usize::MAX);
        assert_eq!(received, sum([WITHOUT_PADDING, b""]));
    }
}

fn each_version_is_converted_to_the_other(engine: Engine) {
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

fn paths_and_local_headers_are_passed_on(engine: Engine) {
    let mut paths = [0; 216];
    paths[108..120].copy_from_slice(b"/run/app.soc");
    let unix = [&header(0x21, 0x31, &[&paths, WITHOUT_PADDING])[..], b"hi"].concat();
    let second = Proxy::start(engine, "v2");
    assert_eq!(second.passes(&unix, usize::MAX).0, unix);
    let first = Proxy::start(engine, "v1");
    assert_eq!(first.passes(&unix, usize::MAX).0, b"PROXY UNKNOWN\r\nhi");
    // A health check: the addresses of its header are ignored, and the sender is the client.
    for came in [
        header(0x20, 0x00, &[]),
        header(0x20, 0x11, &[ENDS, FIELDS]),
        header(0x21, 0x00, &[FIELDS]),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
    ] {
        let came = [&came[..], b"hi"].concat();
        let (received, client) = first.passes(&came, usize::MAX);
        let (from, to) = (client.port(), first.address.port());
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nhi");
        assert_eq!(String::from_utf8(received).unwrap(), line);
    }
}

fn an_invalid_header_is_refused(engine: Engine) {
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
        // There is no reply: the peer is not a trusted proxy.
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received);
        assert_eq!(received, b"");
    }
    assert!(proxy.server.accept().is_err(), "a server was asked");
}
