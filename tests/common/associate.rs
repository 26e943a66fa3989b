//! SOCKS5 UDP ASSOCIATE for tests: a proxy, associations and servers.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::common::engine::Engine;
use super::common::observed::{log_lines, metric};
use super::common::{Finished, NOTICED, PATIENCE, Running, short_drain, until};

/// Long enough for a datagram that is not dropped.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// A proxy with a log and metrics.
pub(crate) struct Proxy {
    pub(crate) program: Running,
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    #[track_caller]
    pub(crate) fn start(engine: Engine, more: &[&str]) -> Self {
        Self::on(engine, "127.0.0.1:0", more)
    }

    #[track_caller]
    pub(crate) fn on(engine: Engine, listen: &str, more: &[&str]) -> Self {
        Self::limited(engine, listen, more, None)
    }

    /// A proxy with this limit of open files.
    #[track_caller]
    pub(crate) fn limited(engine: Engine, listen: &str, more: &[&str], files: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let limit = files.map_or(String::new(), |files| format!("ulimit -n {files} && "));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit}exec \"$@\""), "sh"]);
        command.args([env!("CARGO_BIN_EXE_bench"), "proxy", "serve"]);
        command.args(["--listen", listen, "--metrics", "127.0.0.1:0", "--log"]);
        command.arg(&log).args(engine.options());
        command.args(short_drain(more)).args(more);
        let mut program = Running::new(command);
        let address = program.listening();
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

    /// The metrics server.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.metrics
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

    #[track_caller]
    pub(crate) fn wait_for_drops(&self, cause: &str, value: u64) {
        let series = format!("udp_association_dropped_datagrams_total{{cause=\"{cause}\"}}");
        self.wait_for(&series, value);
    }

    /// The lines of the log, once there are so many.
    #[track_caller]
    pub(crate) fn lines(&self, count: usize) -> Vec<Value> {
        log_lines(&self.folder.path().join("access.log"), count)
    }

    /// Open files.
    pub(crate) fn files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.program.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() << 10
    }

    #[track_caller]
    pub(crate) fn stop(self) -> Finished {
        self.program.signal("TERM");
        self.program.wait(NOTICED).done()
    }
}

/// The messages of a client without a user, and one request.
pub(crate) fn request(command: u8, address: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, command, 0];
    bytes.extend(encoded(address));
    bytes
}

fn encoded(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => [&[1][..], &ip.octets()].concat(),
        IpAddr::V6(ip) => [&[4][..], &ip.octets()].concat(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

/// The header of a datagram.
pub(crate) fn header(address: SocketAddr) -> Vec<u8> {
    [&[0; 3][..], &encoded(address)].concat()
}

/// The header of a datagram to a name.
pub(crate) fn named(name: &str, port: u16) -> Vec<u8> {
    let start = [0, 0, 0, 3, name.len() as u8];
    [&start[..], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// A client's association.
pub(crate) struct Association {
    pub(crate) control: TcpStream,
    pub(crate) relay: SocketAddr,
    pub(crate) socket: UdpSocket,
}

/// The code of the reply, and the address in it.
pub(crate) fn reply(control: &mut TcpStream) -> (u8, SocketAddr) {
    let mut start = [0; 6];
    control.read_exact(&mut start).unwrap();
    assert_eq!(start[..3], [5, 0, 5]);
    let ip: IpAddr = match start[5] {
        1 => {
            let mut bytes = [0; 4];
            control.read_exact(&mut bytes).unwrap();
            bytes.into()
        }
        _ => {
            let mut bytes = [0; 16];
            control.read_exact(&mut bytes).unwrap();
            bytes.into()
        }
    };
    let mut port = [0; 2];
    control.read_exact(&mut port).unwrap();
    (start[3], SocketAddr::new(ip, u16::from_be_bytes(port)))
}

/// A connection that has requested an association from this address.
pub(crate) fn asking(proxy: SocketAddr, from: SocketAddr) -> TcpStream {
    let mut control = TcpStream::connect(proxy).unwrap();
    control.set_read_timeout(Some(PATIENCE)).unwrap();
    control.write_all(&request(3, from)).unwrap();
    control
}

pub(crate) fn unspecified() -> SocketAddr {
    "0.0.0.0:0".parse().unwrap()
}

impl Association {
    #[track_caller]
    pub(crate) fn open(proxy: SocketAddr) -> Self {
        Self::of(asking(proxy, unspecified()))
    }

    /// The association that a connection has requested.
    #[track_caller]
    pub(crate) fn of(mut control: TcpStream) -> Self {
        let (code, relay) = reply(&mut control);
        assert_eq!(code, 0);
        let socket = socket(SocketAddr::new(control.local_addr().unwrap().ip(), 0));
        socket.connect(relay).unwrap();
        Self {
            control,
            relay,
            socket,
        }
    }

    pub(crate) fn send(&self, to: SocketAddr, payload: &[u8]) {
        let bytes = [&header(to), payload].concat();
        self.socket.send(&bytes).unwrap();
    }

    pub(crate) fn send_named(&self, name: &str, port: u16, payload: &[u8]) {
        let bytes = [&named(name, port), payload].concat();
        self.socket.send(&bytes).unwrap();
    }

    /// The next answer, whose source must be `from`.
    #[track_caller]
    pub(crate) fn answer(&self, from: SocketAddr) -> Vec<u8> {
        let bytes = received(&self.socket);
        let header = header(from);
        assert!(bytes.starts_with(&header), "{bytes:?} from {from}");
        bytes[header.len()..].to_vec()
    }
}

pub(crate) fn socket(local: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn server() -> (UdpSocket, SocketAddr) {
    let server = socket("127.0.0.1:0".parse().unwrap());
    let address = server.local_addr().unwrap();
    (server, address)
}

#[track_caller]
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

/// Sends each datagram back. Its thread ends with the test process.
pub(crate) fn echo(local: &str) -> SocketAddr {
    let server = UdpSocket::bind(local).unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            let _ = server.send_to(&bytes[..length], from);
        }
    });
    address
}
