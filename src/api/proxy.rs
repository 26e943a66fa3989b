//! A proxy on a thread of this process.

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use crate::proxy::counters::Totals;
use crate::proxy::options::Options;
use crate::proxy::rules::Rules;
use crate::proxy::server::{Server, StatsHandle, Stopper};

/// A TCP proxy that enforces blocklists, as `bench proxy serve` runs it. It drains and ends when it is dropped or stopped.
///
/// ```
/// use std::io::Write;
/// use wirebench::{BlocklistSources, Policies, Proxy, ProxyOptions, ProxyRules};
///
/// let mut list = tempfile::NamedTempFile::new()?;
/// writeln!(list, "192.0.2.0/24")?;
/// let sources = BlocklistSources { block: vec![list.path().to_owned()], ..Default::default() };
/// let rules = ProxyRules::new(Default::default(), Policies::load(sources)?);
///
/// let proxy = Proxy::start("127.0.0.1:0".parse()?, rules, &ProxyOptions::default())?;
/// println!("SOCKS5, CONNECT and JSON on {}", proxy.address());
/// let totals = proxy.stop()?;
/// assert_eq!(totals.accepted, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    stopper: Stopper,
    stats: StatsHandle,
    thread: Option<JoinHandle<io::Result<Totals>>>,
}

impl Proxy {
    /// Listens on `address`. With port 0 a port is chosen.
    ///
    /// # Errors
    /// As bind(2), listen(2), io_uring_setup(2) and pthread_create(3).
    pub fn start(address: SocketAddr, rules: Rules, options: &Options) -> io::Result<Self> {
        let server = Server::bind(address, rules, options)?;
        let local = server.local().unwrap_or(address);
        let (stopper, stats) = (server.stopper(), server.stats());
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || server.run())?;
        Ok(Self {
            address: local,
            stopper,
            stats,
            thread: Some(thread),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has counted so far.
    pub fn totals(&self) -> Totals {
        self.stats.totals()
    }

    /// Stops accepting, waits for the open connections as long as [`Options::drain`] allows, and returns the totals.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2) of a thread that failed.
    pub fn stop(mut self) -> io::Result<Totals> {
        self.stopper.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(io::Error::other("the thread of the proxy panicked")),
            None => Ok(self.stats.totals()),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
