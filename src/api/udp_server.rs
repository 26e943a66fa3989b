//! The server at the other end of UDP measurements.

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use crate::udp::server::{Limits, Options, Server, Stopper};

/// A server for [`UdpMeasurement::to`](crate::UdpMeasurement::to) and `bench udp --to`, on a thread of this process. It ends when it is dropped.
///
/// ```
/// use wirebench::{Amount, UdpMeasurement, UdpServer};
///
/// let server = UdpServer::start("127.0.0.1:0".parse()?)?;
/// let runs = UdpMeasurement::new(Amount::Packets(100)).to(server.address()).pps(10_000.0).run()?;
/// assert_eq!(runs[0].sent.packets, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UdpServer {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl UdpServer {
    /// Listens on `address`, over TCP and UDP, with the default limits of `bench serve`. With port 0 a port is chosen.
    ///
    /// # Errors
    /// As bind(2), listen(2) and pthread_create(3).
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        Self::with(address, Limits::default(), Options::default()).map_err(|(error, _)| error)
    }

    pub(crate) fn with(
        address: SocketAddr,
        limits: Limits,
        options: Options,
    ) -> Result<Self, (io::Error, SocketAddr)> {
        let server = Server::bind(address, limits, options)?;
        let (local, stopper) = (server.local(), server.stopper());
        // If its event loop fails, the client of a session reports a lost server.
        let thread = thread::Builder::new()
            .name("serve".to_owned())
            .spawn(move || server.run(|_| ()))
            .map_err(|error| (error, address))?;
        Ok(Self {
            address: local,
            stopper,
            thread: Some(thread),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
