//! The listening sockets of a proxy: one for each endpoint and thread.
//!
//! On an address each thread has its own socket, and the kernel distributes clients (`SO_REUSEPORT`). The socket of a path,
//! and a socket that was passed to this program, is shared by its threads; the first to accept gets the client.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use thiserror::Error;

use super::datagrams::listeners::{self as datagram_listeners, DatagramListener};
use crate::sys::activation::Passed;
use crate::sys::endpoint::Endpoint;
use crate::sys::tcp;
use crate::sys::unix::{self, SocketFile};

/// An endpoint on which the proxy cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen on {endpoint}: {error}")]
pub struct ListenError {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// As bind(2) and listen(2): in use, not of this host, not permitted; out of file descriptors or memory.
    #[source]
    pub error: io::Error,
}

/// The socket of one thread.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) local: Endpoint,
}

/// The sockets of all threads.
#[derive(Debug)]
pub struct Listeners {
    pub(super) all: Vec<Listener>,
    endpoints: Vec<Endpoint>,
    threads: usize,
    files: Arc<Vec<SocketFile>>,
    /// One for each address of datagrams and thread.
    pub(super) datagrams: Vec<DatagramListener>,
}

impl Listeners {
    /// Listens on each of `endpoints` with `threads` sockets; the kernel chooses if a port is 0. The socket of a path gets
    /// the permission bits of `mode`, or else those that umask(2) leaves.
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
            datagrams: Vec::new(),
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

    /// Adds sockets that were passed to this program.
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

    /// Also receives datagrams on each of `addresses`, to forward them as [`super::options::Options::datagrams`] requests.
    ///
    /// # Errors
    /// [`ListenError`], of the first address that fails.
    pub fn bind_datagrams(&mut self, addresses: &[SocketAddr]) -> Result<(), ListenError> {
        self.datagrams = datagram_listeners::bind(addresses, self.threads)?;
        Ok(())
    }

    /// The addresses on which datagrams are received.
    pub fn datagram_addresses(&self) -> Vec<SocketAddr> {
        let each = self.datagrams.iter().step_by(self.threads);
        each.map(|listener| listener.local).collect()
    }

    /// The endpoints, in the order of [`Self::bind`].
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The files of sockets, removed when the last reference is dropped.
    pub fn files(&self) -> Arc<Vec<SocketFile>> {
        Arc::clone(&self.files)
    }

    /// Adds the sockets of one address, one for each thread.
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

    /// Adds one socket for all threads of an endpoint.
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

/// Whether the endpoints include an IPv4 address with the same port, which an IPv6 socket then leaves to it.
fn has_v4(endpoints: &[Endpoint], address: SocketAddr) -> bool {
    let mut addresses = endpoints.iter().filter_map(Endpoint::ip);
    addresses.any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0)
}

fn on_address(
    mut address: SocketAddr,
    only_v6: bool,
    threads: usize,
) -> io::Result<Vec<TcpListener>> {
    // A socket without `SO_REUSEPORT` finds out whether the port is in use. With it, another proxy of the same user would
    // silently share the port.
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
    fn every_endpoint_has_one_socket_for_each_thread() {
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
    fn an_endpoint_given_twice_is_in_use() {
        let first = Listeners::bind(&endpoints(&["127.0.0.1:0"]), None, 2).unwrap();
        let endpoint = first.endpoints()[0].to_string();
        for threads in [1, 2] {
            let error = Listeners::bind(&endpoints(&[&endpoint]), None, threads).unwrap_err();
            assert_eq!(error.error.kind(), ErrorKind::AddrInUse);
            assert_eq!(error.endpoint.to_string(), endpoint);
        }
    }

    #[test]
    fn both_families_may_have_the_same_port() {
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
