//! A front end with words of its own, over real sockets: every phase that a fixed server has no use for.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Instant;

use super::*;
use crate::proxy::front::{Answer, Decision, Failed, Request, Target};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client says `ADDR:PORT` on a line, and may ask for patience with an empty one. Port 9 is blocked.
#[derive(Clone)]
struct Lines;

#[derive(Default)]
struct Line(Vec<u8>);

impl FrontEnd for Lines {
    type Request = Line;

    fn begin(&self, _client: SocketAddr) -> (Line, Answer) {
        (Line::default(), Answer::More(b"where to?\n".to_vec()))
    }

    fn crowded(&self) -> Vec<u8> {
        b"full\n".to_vec()
    }

    fn decide(&self, address: SocketAddr, name: Option<&str>) -> Decision {
        assert_eq!(name, Some("by name"));
        if address.port() == 9 {
            Decision::Block("port 9".to_owned())
        } else {
            Decision::Allow
        }
    }
}

impl Request for Line {
    fn take(&mut self, bytes: &[u8]) -> Answer {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().position(|byte| *byte == b'\n') else {
            return Answer::More(Vec::new());
        };
        let rest = self.0.split_off(end + 1);
        let line = String::from_utf8(std::mem::replace(&mut self.0, rest)).unwrap();
        match line.trim().parse() {
            Ok(address) => Answer::Connect(Target {
                address,
                name: Some("by name".to_owned()),
                to_server: std::mem::take(&mut self.0),
            }),
            Err(_) if line == "\n" => Answer::More(b"yes?\n".to_vec()),
            Err(_) => Answer::Refuse(b"what?\n".to_vec()),
        }
    }

    fn connected(&mut self, server: SocketAddr) -> Vec<u8> {
        format!("connected to {server}\n").into_bytes()
    }

    fn failed(&mut self, why: &Failed) -> Vec<u8> {
        match why {
            Failed::Blocked(reason) => format!("blocked: {reason}\n"),
            Failed::Connect(error) => format!("{:?}\n", error.kind()),
            Failed::TimedOut => "no answer\n".to_owned(),
            Failed::RequestTimedOut => "speak up\n".to_owned(),
        }
        .into_bytes()
    }
}

/// A proxy in a thread.
struct Running {
    local: SocketAddr,
    stopper: Stopper,
    thread: JoinHandle<io::Result<Totals>>,
}

impl Running {
    fn start(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        change(&mut options);
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), &Lines, &options).unwrap();
        Self {
            local: server.local(),
            stopper: server.stopper(),
            thread: thread::spawn(|| server.run()),
        }
    }

    fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.local).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn stop(self) -> Totals {
        self.stopper.stop();
        self.thread.join().unwrap().unwrap()
    }
}

/// All that comes until the end.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Says all of it and gives all that comes until the end.
fn told(proxy: &Running, said: &str) -> String {
    let mut client = proxy.client();
    client.write_all(said.as_bytes()).unwrap();
    rest(client)
}

#[test]
fn a_request_in_any_pieces_is_answered_and_what_is_behind_it_is_the_servers() {
    for forwarding in [Forwarding::Auto, Forwarding::Copy, Forwarding::Splice] {
        let proxy = Running::start(|options| options.forwarding = forwarding);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut client = proxy.client();
        let mut heard = [0; 15];
        client.read_exact(&mut heard[..10]).unwrap();
        client.write_all(b"\n").unwrap();
        client.read_exact(&mut heard[10..]).unwrap();
        assert_eq!(&heard, b"where to?\nyes?\n");
        let (first, second) = (format!("{to}"), "\nfor the server");
        client.set_nodelay(true).unwrap();
        client.write_all(first.as_bytes()).unwrap();
        client.write_all(second.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "for the server");
        server.write_all(b"for the client").unwrap();
        drop(server);
        assert_eq!(rest(client), format!("connected to {to}\nfor the client"));
        let totals = proxy.stop();
        assert_eq!((totals.connections, totals.finished), (1, 1));
    }
}

#[test]
fn who_is_refused_hears_why() {
    let proxy = Running::start(|_| {});
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let hello = "where to?\n";
    // More than is read of it does not turn the answer into a reset.
    let more = "x".repeat(100_000);
    assert_eq!(
        told(&proxy, &format!("nowhere\n{more}")),
        format!("{hello}what?\n")
    );
    assert_eq!(
        told(&proxy, &format!("192.0.2.1:9\n{more}")),
        format!("{hello}blocked: port 9\n")
    );
    assert_eq!(
        told(&proxy, &format!("{closed}\n{more}")),
        format!("{hello}ConnectionRefused\n")
    );
    let totals = proxy.stop();
    assert_eq!((totals.refused, totals.no_server), (2, 1));
    assert_eq!(totals.connections, 3);
}

#[test]
fn who_does_not_speak_up_is_told_so() {
    let proxy = Running::start(|options| options.timeouts.request = Duration::from_millis(100));
    let begin = Instant::now();
    assert_eq!(told(&proxy, "half a li"), "where to?\nspeak up\n");
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(proxy.stop().timed_out, 1);
}

#[test]
fn who_is_one_too_many_is_told_so_and_one_that_leaves_makes_room() {
    let proxy = Running::start(|options| options.connections = 1);
    let mut first = proxy.client();
    first.read_exact(&mut [0; 10]).unwrap();
    assert_eq!(told(&proxy, "hello?"), "full\n");
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    while told_at_once(&proxy) != b"where to?\n"[..5] {
        assert!(Instant::now() < deadline, "no room");
    }
    proxy.stop();
}

fn told_at_once(proxy: &Running) -> [u8; 5] {
    let mut heard = [0; 5];
    proxy.client().read_exact(&mut heard).unwrap();
    heard
}

#[test]
fn a_client_that_never_hangs_up_is_left_after_a_while() {
    let proxy = Running::start(|_| {});
    let mut client = proxy.client();
    client.write_all(b"nowhere\n").unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    // It goes on talking until nobody is there.
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        if let Err(error) = client.write_all(&[0; 1_000]) {
            break error;
        }
        assert!(Instant::now() < deadline, "it is listened to for ever");
        thread::yield_now();
    };
    assert!(matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
    proxy.stop();
}
