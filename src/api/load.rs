//! A load generator for proxies, and the server that answers its requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Waker;
use thiserror::Error;

use crate::load::measurement::Extent;
use crate::load::origin;
use crate::load::plan::{self, Path, Plan, Scenario};
use crate::load::result::{Measured, Run};
use crate::load::session::{self, Observer};
use crate::protocol::{Destination, Kind};
use crate::sys::endpoint::Endpoint;

/// Why the load could not be measured.
#[derive(Debug, Error)]
#[error("cannot measure the {scenario} scenario: {source}")]
pub struct LoadError {
    /// As in [`Run::scenario`].
    scenario: &'static str,
    source: io::Error,
}

/// The server that answers the load generator, as `bench proxy origin` runs it, on a thread of this process. It ends when it is
/// dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Origin {
    /// Listens on `address`. With port 0 a port is chosen.
    ///
    /// # Errors
    /// As bind(2), listen(2) and pthread_create(3).
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let server = origin::Origin::bind(&Endpoint::Ip(address))?;
        let (local, waker) = (server.local().ip().unwrap_or(address), server.waker());
        let thread = thread::Builder::new()
            .name("origin".to_owned())
            .spawn(move || server.run(|_, _| ()))?;
        Ok(Self {
            address: local,
            waker,
            thread: Some(thread),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Requests to an [`Origin`], directly and through a proxy, as `bench proxy load` makes them.
///
/// ```
/// use std::time::Duration;
/// use wirebench::{Origin, ProxyLoad, Scenario};
///
/// let origin = Origin::start("127.0.0.1:0".parse()?)?;
/// let runs = ProxyLoad::new(origin.address())
///     .scenario(Scenario::RequestResponse)
///     .connections(2)
///     .duration(Duration::from_millis(50))
///     .run()?;
/// assert_eq!((runs.len(), runs[0].path.as_str()), (1, "direct"));
/// assert!(runs[0].requests > 0 && runs[0].requests_per_s.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ProxyLoad {
    plan: Plan,
}

impl ProxyLoad {
    /// Loads the direct path to the server at `origin`: for 1 s with 32 connections, requests of 32 bytes that are kept on
    /// their connections.
    pub fn new(origin: SocketAddr) -> Self {
        Self {
            plan: Plan {
                scenarios: vec![Scenario::RequestResponse],
                origin: Endpoint::Ip(origin),
                origin_process: None,
                direct: true,
                proxies: Vec::new(),
                blocked: None,
                user: None,
                connections: 32,
                streams: 1,
                message: 32,
                rate: None,
                phase: 0.0,
                bytes: None,
                extent: Extent {
                    duration: Duration::from_secs(1),
                    warmup: Duration::ZERO,
                    threads: 1,
                },
                timeout: Duration::from_secs(5),
                rounds: 1,
                via: None,
                origin_named: Some(origin.to_string()),
                progress: None,
            },
        }
    }

    /// Loads the path through this proxy too, which is asked for the server in this protocol.
    #[must_use]
    pub fn via(mut self, proxy: SocketAddr, protocol: Kind) -> Self {
        self.plan.via = Some(proxy.to_string());
        self.plan.proxies = vec![plan::Proxy {
            setting: None,
            address: proxy.into(),
            protocol,
            processes: Vec::new(),
            engine: None,
            forwarding: None,
            threads: None,
        }];
        self
    }

    /// The destination that the proxy refuses, for [`Scenario::Blocked`].
    #[must_use]
    pub fn blocked(mut self, destination: Destination) -> Self {
        self.plan.blocked = Some(destination);
        self
    }

    /// What the clients do.
    #[must_use]
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        self.plan.scenarios = vec![scenario];
        self
    }

    /// Connections at once.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.plan.connections = connections.max(1);
        self.plan.streams = connections.max(1);
        self
    }

    /// Starts requests at this rate, in requests a second, whether or not earlier ones are answered.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.plan.rate = Some(rate);
        self
    }

    /// Time in which requests are started on each path.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.plan.extent.duration = duration;
        self
    }

    /// Measures each path in turn. The direct path comes first.
    ///
    /// # Errors
    /// [`LoadError`] where sockets or threads could not be made. A request that fails is counted in [`Run::errors`].
    pub fn run(&self) -> Result<Vec<Run>, LoadError> {
        let mut runs = Runs::default();
        session::run(&self.plan, &AtomicBool::new(false), &mut runs)?;
        Ok(runs.all)
    }
}

/// Keeps every run.
#[derive(Default)]
struct Runs {
    all: Vec<Run>,
    scenario: &'static str,
}

impl Observer for Runs {
    type Error = LoadError;

    fn started(&mut self, scenario: Scenario, _: Path<'_>, _: usize) {
        self.scenario = scenario.name();
    }

    fn finished(&mut self, measured: Measured) -> Result<(), LoadError> {
        self.all.push(measured.run);
        Ok(())
    }

    fn failed(&mut self, source: io::Error) -> LoadError {
        LoadError {
            scenario: self.scenario,
            source,
        }
    }
}
