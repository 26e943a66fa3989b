//! The server, with hostile clients.

use std::net;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    waker: Arc<Waker>,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(body: usize) -> Self {
        Self::with_timeout(body, TIMEOUT)
    }

    fn with_timeout(body: usize, timeout: u64) -> Self {
        let mut status = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        status.timeout = timeout;
        let (address, waker) = (status.local(), status.waker());
        let thread = thread::spawn(move || {
            status.run(|path| {
                (path == "/page").then(|| Page {
                    is_ok: true,
                    content_type: "text/plain",
                    body: "x".repeat(body),
                })
            })
        });
        Self {
            address,
            waker,
            thread,
        }
    }

    fn client(&self) -> net::TcpStream {
        let stream = net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// The whole response to this request.
    fn response_to(&self, request: &[u8]) -> String {
        let mut client = self.client();
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[track_caller]
    fn assert_serves(&self) {
        let begin = Instant::now();
        let answer = self.response_to(b"GET /page HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        // No client had to time out.
        assert!(begin.elapsed() < Duration::from_nanos(TIMEOUT));
    }

    fn stop(self) {
        self.waker.wake().unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn a_long_page_is_sent_completely() {
    let server = Running::start(3_000_000);
    let answer = server.response_to(b"GET /page HTTP/1.1\r\n\r\n");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 3_000_000);
    server.stop();
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = Running::start(10);
    let mut client = server.client();
    client.set_nodelay(true).unwrap();
    for byte in b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nxxxxxxxxxx"), "{answer}");
    server.stop();
}

#[test]
fn an_idle_client_makes_room_for_a_request() {
    let server = Running::start(10);
    let mut idle: Vec<_> = (0..CLIENTS * 3).map(|_| server.client()).collect();
    for client in &mut idle {
        // Clients that were replaced already may not accept it.
        let _ = client.write_all(b"GET /page HTTP/1.1\r\nX-Slow: ");
    }
    server.assert_serves();
    server.assert_serves();
    // The first was replaced.
    let mut left = idle.swap_remove(0);
    let waits = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
    assert!(!left.read(&mut [0; 10]).is_err_and(|error| waits(&error)));
    server.stop();
}

#[test]
fn a_client_that_does_not_read_delays_no_other() {
    let server = Running::start(10_000_000);
    let lazy: Vec<_> = (0..CLIENTS / 2)
        .map(|_| {
            let mut client = server.client();
            client.write_all(b"GET /page HTTP/1.1\r\n\r\n").unwrap();
            client
        })
        .collect();
    server.assert_serves();
    drop(lazy);
    server.assert_serves();
    server.stop();
}

#[test]
fn a_response_is_not_lost_for_bytes_behind_the_request() {
    let server = Running::start(10);
    let long = vec![b'x'; MAX_REST / 2];
    for _ in 0..20 {
        let request = [&b"POST /page HTTP/1.1\r\n\r\n"[..], &long].concat();
        let answer = server.response_to(&request);
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
    // A flood is cut off.
    let mut client = server.client();
    client.write_all(b"GET /page HTTP/1.1\r\n\r\n").unwrap();
    let begin = Instant::now();
    while client.write_all(&long).is_ok() {
        assert!(begin.elapsed() < LONG, "it is read on and on");
    }
    server.assert_serves();
    server.stop();
}

#[test]
fn resets_and_ends_in_any_phase_are_tolerated() {
    let server = Running::start(100_000);
    for round in 0..60 {
        let mut client = server.client();
        if round % 3 > 0 {
            client.write_all(b"GET /page HTTP/1.1\r\n\r\n").unwrap();
        }
        if round % 3 > 1 {
            client.read_exact(&mut [0; 50]).unwrap();
        }
        if round % 2 == 0 {
            tcp::reset_on_close(&client).unwrap();
        }
    }
    server.assert_serves();
    server.stop();
}

#[test]
fn a_client_without_a_request_times_out() {
    const SHORT: u64 = 200_000_000;
    let server = Running::with_timeout(10, SHORT);
    let begin = Instant::now();
    for received in [&b""[..], b"GET /page"] {
        let mut client = server.client();
        client.write_all(received).unwrap();
        assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
    }
    assert!(begin.elapsed() >= Duration::from_nanos(SHORT));
    server.stop();
}
