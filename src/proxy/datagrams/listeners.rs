//! The sockets on which datagrams of clients are received: one for each address and thread.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::proxy::listeners::ListenError;
use crate::sys::datagrams;
use crate::sys::endpoint::Endpoint;
use crate::sys::socket;

/// Requested bytes of a listener's receive and send buffers, which the kernel limits (`net.core.rmem_max`).
const BUFFER: usize = 8 << 20;

/// The socket of one thread.
#[derive(Debug)]
pub struct DatagramListener {
    pub(super) socket: UdpSocket,
    /// Its address.
    pub local: SocketAddr,
}

impl DatagramListener {
    /// A descriptor that keeps the socket open. The kernel selects a socket by their number: if the socket of a thread that
    /// has ended were closed, datagrams of open flows would reach another thread.
    ///
    /// # Errors
    /// As fcntl(2): out of file descriptors.
    pub(in crate::proxy) fn keep_open(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }
}

/// Binds `threads` sockets to each of `addresses`; the kernel chooses if a port is 0.
///
/// # Errors
/// [`ListenError`], of the first address that fails.
pub fn bind(
    addresses: &[SocketAddr],
    threads: usize,
) -> Result<Vec<DatagramListener>, ListenError> {
    let mut all = Vec::new();
    for &address in addresses {
        let only_v6 = addresses
            .iter()
            .any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0);
        let sockets = on_address(address, only_v6, threads).map_err(|error| ListenError {
            endpoint: Endpoint::Ip(address),
            error,
        })?;
        all.extend(sockets);
    }
    Ok(all)
}

fn on_address(
    mut address: SocketAddr,
    only_v6: bool,
    threads: usize,
) -> io::Result<Vec<DatagramListener>> {
    // Without `SO_REUSEPORT` a port in use is an error. With it, another proxy of this user would share the port.
    let alone = datagrams::listen(address, false, only_v6)?;
    address = alone.local_addr()?;
    let sockets = match threads {
        0 | 1 => vec![alone],
        _ => {
            drop(alone);
            let shared = (0..threads).map(|_| datagrams::listen(address, true, only_v6));
            shared.collect::<io::Result<_>>()?
        }
    };
    let each = sockets.into_iter().map(|socket| {
        socket::set_buffers(&socket, Some(BUFFER), Some(BUFFER), true)?;
        let local = address;
        Ok(DatagramListener { socket, local })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_a_socket_for_each_thread() {
        let addresses = ["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().unwrap());
        let all = bind(&addresses, 2).unwrap();
        let locals: Vec<_> = all.iter().map(|listener| listener.local).collect();
        assert!(locals.len() == 4 && locals[0] == locals[1] && locals[2] == locals[3]);
        assert!(locals[0].port() != 0);
        for threads in [1, 2] {
            let error = bind(&locals[..1], threads).unwrap_err();
            assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
