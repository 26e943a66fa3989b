//! The sockets that a proxy listens on: for every endpoint as many as a endpoint has threads.
//!
//! On an address each thread has a socket of its own, among which the kernel spreads clients (`SO_REUSEPORT`). What is
//! listened on by path, or was passed to this program, is one socket: its threads share that, and whoever is first takes the client.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use thiserror::Error;

use crate::sys::activation::Passed;
use crate::sys::endpoint::Endpoint;
use crate::sys::tcp;
use crate::sys::unix::{self, SocketFile};

/// A endpoint cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {endpoint}: {error}")]
pub struct ListenError {
    /// Where.
    pub endpoint: Endpoint,
    /// As bind(2) and listen(2): in use, not of this host, not permitted; out of file descriptors or memory.
    #[source]
    pub error: io::Error,
}

/// A thread's socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) local: Endpoint,
}

/// All of them.
#[derive(Debug)]
pub struct Listeners {
    pub(super) all: Vec<Listener>,
    endpoints: Vec<Endpoint>,
    threads: usize,
    files: Arc<Vec<SocketFile>>,
}

impl Listeners {
    /// Listens on each of `endpoints`, where port 0 lets the kernel choose, with `threads` each. The socket of a path gets the
    /// permission bits of `mode`, or else those that umask(2) leaves.
    ///
    /// # Errors
    /// [`ListenError`], of the first endpoint that fails.
    pub fn bind(
        endpoints: &[Endpoint],
        mode: Option<u32>,
        threads: usize,
    ) -> Result<Self, ListenError> {
        let mut bound = Self {
            all: Vec::new(),
            endpoints: Vec::new(),
            threads: threads.max(1),
            files: Arc::default(),
        };
        let mut files = Vec::new();
        for endpoint in endpoints {
            let failed = |error| ListenError {
                endpoint: endpoint.clone(),
                error,
            };
            match endpoint {
                Endpoint::Ip(address) => {
                    let only_v6 = has_v4(endpoints, *address);
                    let sockets = on_address(*address, only_v6, bound.threads).map_err(failed)?;
                    bound.add_each(sockets).map_err(failed)?;
                }
                Endpoint::Unix(path) => {
                    let (socket, file) = unix::listen(path, mode).map_err(failed)?;
                    files.push(file);
                    bound.add_shared(socket, endpoint).map_err(failed)?;
                }
            }
        }
        bound.files = Arc::new(files);
        Ok(bound)
    }

    /// Takes sockets that were passed to this program too.
    ///
    /// # Errors
    /// [`ListenError`]: out of file descriptors.
    pub fn adopt(&mut self, passed: Vec<Passed>) -> Result<(), ListenError> {
        for Passed {
            local, listener, ..
        } in passed
        {
            let prepared = match local {
                Endpoint::Ip(_) => tcp::for_relaying(&listener),
                Endpoint::Unix(_) => Ok(()),
            };
            prepared
                .and_then(|()| self.add_shared(listener, &local))
                .map_err(|error| ListenError {
                    endpoint: local,
                    error,
                })?;
        }
        Ok(())
    }

    /// Where it listens, in the order of the endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The files of its sockets, which are removed once nobody has them.
    pub fn files(&self) -> Arc<Vec<SocketFile>> {
        Arc::clone(&self.files)
    }

    /// Sockets on one address, a thread's each.
    fn add_each(&mut self, sockets: Vec<TcpListener>) -> io::Result<()> {
        for (number, socket) in sockets.into_iter().enumerate() {
            let local = Endpoint::Ip(socket.local_addr()?);
            if number == 0 {
                self.endpoints.push(local.clone());
            }
            self.all.push(Listener { socket, local });
        }
        Ok(())
    }

    /// One socket for all threads of a endpoint.
    fn add_shared(&mut self, socket: TcpListener, local: &Endpoint) -> io::Result<()> {
        for _ in 1..self.threads {
            self.all.push(Listener {
                socket: socket.try_clone()?,
                local: local.clone(),
            });
        }
        self.all.push(Listener {
            socket,
            local: local.clone(),
        });
        self.endpoints.push(local.clone());
        Ok(())
    }
}

/// Whether an IPv4 address with the same port is among the endpoints: then an IPv6 socket leaves that to it.
fn has_v4(endpoints: &[Endpoint], address: SocketAddr) -> bool {
    let mut addresses = endpoints.iter().filter_map(Endpoint::ip);
    addresses.any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0)
}

fn on_address(
    mut address: SocketAddr,
    only_v6: bool,
    threads: usize,
) -> io::Result<Vec<TcpListener>> {
    // Alone it is found out where somebody listens already; shared, the port would be shared with another proxy of
    // ours too, in silence.
    let alone = tcp::listen_on(address, false, only_v6)?;
    if threads <= 1 {
        return Ok(vec![alone]);
    }
    address = alone.local_addr()?;
    drop(alone);
    (0..threads)
        .map(|_| tcp::listen_on(address, true, only_v6))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_place_has_a_socket_a_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let path = format!("unix:{}", path.display());
        let bound =
            Listeners::bind(&endpoints(&["127.0.0.1:0", &path, "127.0.0.1:0"]), None, 3).unwrap();
        assert_eq!(bound.all.len(), 9);
        assert_eq!(bound.endpoints().len(), 3);
        assert_eq!(bound.endpoints()[1].to_string(), path);
        let ports: Vec<_> = bound.endpoints().iter().filter_map(Endpoint::ip).collect();
        assert!(ports.len() == 2 && ports[0] != ports[1] && ports[0].port() != 0);
        for (endpoint, sockets) in bound.endpoints().iter().zip(bound.all.chunks(3)) {
            assert!(sockets.iter().all(|of| of.local == *endpoint), "{endpoint}");
        }
        assert_eq!(bound.files().len(), 1);
    }

    #[test]
    fn a_place_twice_is_in_use() {
        let first = Listeners::bind(&endpoints(&["127.0.0.1:0"]), None, 2).unwrap();
        let endpoint = first.endpoints()[0].to_string();
        for threads in [1, 2] {
            let error = Listeners::bind(&endpoints(&[&endpoint]), None, threads).unwrap_err();
            assert_eq!(error.error.kind(), ErrorKind::AddrInUse);
            assert_eq!(error.endpoint.to_string(), endpoint);
        }
    }

    #[test]
    fn both_families_have_the_same_port_where_both_are_named() {
        let Ok(probe) = TcpListener::bind("[::1]:0") else {
            println!("skipped: this host has no IPv6");
            return;
        };
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        for (first, second) in [("0.0.0.0", "[::]"), ("[::]", "0.0.0.0")] {
            let both = [format!("{first}:{port}"), format!("{second}:{port}")];
            let bound = Listeners::bind(&endpoints(&[&both[0], &both[1]]), None, 2).unwrap();
            assert_eq!(bound.all.len(), 4);
        }
    }
}
