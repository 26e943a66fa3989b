//! A proxy that forwards datagrams, and the ends that a test plays.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use wirebench::sys::datagrams::{Departure, Departures};

use crate::common::engine::Engine;
use crate::common::observed::{log_lines, metric};
use crate::common::{Finished, NOTICED, PATIENCE, Running, short_drain, start, until};

/// Long enough for a datagram that is not dropped.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// A proxy that forwards datagrams, with a log and metrics.
pub(crate) struct Proxy {
    pub(crate) program: Running,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Proxy {
    #[track_caller]
    pub(crate) fn start(engine: Engine, server: SocketAddr, more: &[&str]) -> Self {
        Self::on(engine, "127.0.0.1:0", &server.to_string(), more)
    }

    #[track_caller]
    pub(crate) fn on(engine: Engine, listen: &str, server: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let log = log.to_str().unwrap();
        let ends = ["--listen-udp", listen, "--forward-udp", server];
        let outputs = ["--log", log, "--metrics", "127.0.0.1:0"];
        let fixed = ["proxy", "serve"].into_iter().chain(ends).chain(outputs);
        let fixed = fixed
            .chain(short_drain(more).iter().copied())
            .chain(engine.options());
        let mut program = start(fixed.chain(more.iter().copied()));
        let line = program.line(|line| line.starts_with("forwarding UDP from "));
        let address = line.split(' ').nth(3).unwrap().parse().unwrap();
        let line = program.line(|line| line.starts_with("metrics on "));
        let url = line.strip_prefix("metrics on http://").unwrap();
        let metrics = url.strip_suffix("/metrics").unwrap().parse().unwrap();
        Self {
            program,
            address,
            metrics,
            folder,
        }
    }

    pub(crate) fn value(&self, series: &str) -> u64 {
        metric(self.metrics, series)
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, series: &str, value: u64) {
        until(&format!("{series} is {value}"), || {
            self.value(series) == value
        });
    }

    pub(crate) fn dropped(&self, cause: &str) -> u64 {
        self.value(&format!("udp_dropped_datagrams_total{{cause=\"{cause}\"}}"))
    }

    /// The lines of the log, once there are so many.
    #[track_caller]
    pub(crate) fn lines(&self, count: usize) -> Vec<Value> {
        log_lines(&self.folder.path().join("access.log"), count)
    }

    #[track_caller]
    pub(crate) fn stop(self) -> Finished {
        self.program.signal("TERM");
        self.program.wait(NOTICED).done()
    }
}

pub(crate) fn socket(local: &str) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn client(to: SocketAddr) -> UdpSocket {
    let client = socket("127.0.0.1:0");
    client.connect(to).unwrap();
    client
}

pub(crate) fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

pub(crate) fn receives_nothing(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(SOON)).unwrap();
    let outcome = socket.recv(&mut [0; 100]);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Sends each datagram back, with its source's port in front if `named`. Its thread ends with the test process.
pub(crate) fn echo(named: bool) -> SocketAddr {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            let mut answer = match named {
                true => from.port().to_be_bytes().to_vec(),
                false => Vec::new(),
            };
            answer.extend(&bytes[..length]);
            server.send_to(&answer, from).unwrap();
        }
    });
    address
}

/// Sends a run of datagrams, the last shorter.
pub(crate) fn send_run(socket: &UdpSocket, bytes: &[u8], segment: u16, to: Option<SocketAddr>) {
    let run = Departure {
        parts: [bytes].into_iter(),
        segment,
        to,
        from: None,
        tos: 0,
    };
    let sent = Departures::new(1).send(socket.as_fd(), false, [run].into_iter());
    assert_eq!(sent.unwrap(), 1);
}
