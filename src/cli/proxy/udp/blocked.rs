//! Datagrams to a relay whose destination is blocked.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::udp::client::{Association, RunError, Setup, Via};

/// Time between two bursts of datagrams.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the last datagrams may take.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// The blocked destination.
pub(super) struct Blocked {
    /// Its socket, at which nothing may arrive.
    pub(super) sink: UdpSocket,
}

/// What became of the datagrams.
pub(super) struct Outcome {
    pub(super) sent: u64,
    /// Refused by this host's kernel.
    pub(super) refused: u64,
    /// Arrived at the blocked destination.
    pub(super) passed: u64,
    pub(super) seconds: f64,
}

/// A socket for datagrams that may not arrive.
pub(super) fn sink() -> io::Result<UdpSocket> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sink.set_nonblocking(true)?;
    Ok(sink)
}

impl Blocked {
    /// Sends datagrams of `length` bytes to the relay, `pps` a second, for this long, until `stop` returns `true`.
    ///
    /// # Errors
    /// As socket(2) and connect(2), and a SOCKS5 proxy that refuses an association.
    pub(super) fn send(
        &self,
        via: &Via,
        (pps, length): (f64, usize),
        time: Duration,
        stop: impl Fn() -> bool,
    ) -> Result<Outcome, RunError> {
        let blocked = self.sink.local_addr().map_err(RunError::Start)?;
        // The relay ends with its connection.
        let association = match via {
            Via::Socks5 { proxy, user } => {
                let setup = Setup::to(blocked);
                Some(Association::open(*proxy, user.as_ref(), &setup)?)
            }
            Via::Udp(_) => None,
        };
        let relay = association.as_ref().map(|association| association.relay);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(RunError::Start)?;
        let connected = socket.connect(relay.unwrap_or(via.address()));
        connected.map_err(RunError::Start)?;
        let mut datagram = Via::header(Some(via), blocked).bytes().to_vec();
        datagram.resize(datagram.len() + length, 0);
        let (mut sent, mut refused) = (0u64, 0);
        let mut passed = self.arrived();
        let began = Instant::now();
        while began.elapsed() < time && !stop() {
            let due = (began.elapsed().as_secs_f64() * pps) as u64;
            while sent < due {
                sent += 1;
                // An ICMP error about an earlier datagram fails a send.
                if socket.send(&datagram).is_err() && socket.send(&datagram).is_err() {
                    refused += 1;
                }
            }
            passed += self.arrived();
            thread::sleep(PAUSE);
        }
        let seconds = began.elapsed().as_secs_f64();
        thread::sleep(STRAGGLERS);
        passed += self.arrived();
        Ok(Outcome {
            sent,
            refused,
            passed,
            seconds,
        })
    }

    /// Datagrams that have arrived.
    fn arrived(&self) -> u64 {
        let mut count = 0;
        loop {
            match self.sink.recv(&mut [0; 1]) {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return count,
            }
        }
    }
}
