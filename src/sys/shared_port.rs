//! Several UDP sockets on one port, distinguished by their peer (ip(7), udp(7)).
//!
//! A connected socket receives the datagrams of its peer; an unconnected one receives all others (`compute_score` in
//! net/ipv4/udp.c). All must set `SO_REUSEADDR`, without which the second bind fails.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, MaybeUninitSlice, MsgHdrMut, Protocol, SockAddr, SockRef, Socket, Type};

use super::cmsg::next_control;
use super::ip_options::exclude_other_groups;
use super::socket::{bind, set_int};

/// Creates an unbound, non-blocking UDP socket of the family of `address`.
///
/// # Errors
/// As socket(2).
pub fn unbound(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Creates a socket on `local` for datagrams that match no connected socket, including IPv4 if `local` is the
/// unspecified IPv6 address. It reports the destination address of each datagram.
///
/// # Errors
/// As socket(2), setsockopt(2) and bind(2).
pub fn listen(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if local.is_ipv6() {
        set_int(
            socket.as_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            1,
        )?;
    } else {
        set_int(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    }
    let socket = UdpSocket::from(socket);
    // Older kernels deliver datagrams of groups to this socket too, where they are of no flow.
    let _ = exclude_other_groups(&socket);
    bind(&socket, local)?;
    Ok(socket)
}

/// Binds an unbound socket to `local`, whose port is shared, and connects it to `peer`.
///
/// # Errors
/// As bind(2) and connect(2).
pub fn join(socket: &UdpSocket, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.connect(&peer.into())
}

/// A datagram received on a socket of [`listen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its length in the buffer.
    pub length: usize,
    /// Source address; an IPv4 address is not mapped to IPv6.
    pub peer: SocketAddr,
    /// Destination address, with the port of `local`.
    pub local: SocketAddr,
}

/// Receives one datagram, truncated to `bytes`. `None` if no datagram is queued.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(
    socket: &UdpSocket,
    local: SocketAddr,
    bytes: &mut [u8],
) -> io::Result<Option<Arrival>> {
    let mut control = [MaybeUninit::<u8>::uninit(); 128];
    // SAFETY: initialised bytes may be passed as possibly uninitialised ones, and recvmsg(2) writes only initialised
    // bytes.
    let buffer = unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) };
    let mut buffers = [MaybeUninitSlice::new(buffer)];
    // SAFETY: all-zero is an address of no family.
    let mut name =
        unsafe { SockAddr::new(std::mem::zeroed(), size_of::<libc::sockaddr_storage>() as _) };
    let mut header = MsgHdrMut::new()
        .with_addr(&mut name)
        .with_buffers(&mut buffers)
        .with_control(&mut control);
    let length = match SockRef::from(socket).recvmsg(&mut header, libc::MSG_DONTWAIT) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let written = header.control_len().min(control.len());
    // SAFETY: the kernel wrote that many bytes.
    let mut rest = unsafe { std::slice::from_raw_parts(control.as_ptr().cast::<u8>(), written) };
    let mut to = local;
    while let Some((level, kind, data)) = next_control(&mut rest) {
        match (level, kind) {
            // struct in_pktinfo: interface, local address, destination address.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let Some(address) = data.get(8..12).and_then(|rest| rest.first_chunk::<4>()) {
                    to.set_ip(Ipv4Addr::from(*address).into());
                }
            }
            // struct in6_pktinfo: destination address, interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let (Some(address), Some(interface)) = (
                    data.first_chunk::<16>(),
                    data.get(16..20).and_then(|rest| rest.first_chunk::<4>()),
                ) {
                    let address = Ipv6Addr::from(*address);
                    let interface = u32::from_ne_bytes(*interface);
                    let scope = if address.is_unicast_link_local() {
                        interface
                    } else {
                        0
                    };
                    to = SocketAddrV6::new(address, local.port(), 0, scope).into();
                }
            }
            _ => {}
        }
    }
    let Some(peer) = name.as_socket() else {
        return Ok(None);
    };
    Ok(Some(Arrival {
        length,
        peer: canonical(peer),
        local: canonical(to),
    }))
}

/// Converts an IPv4-mapped IPv6 address to IPv4. Other IPv6 addresses keep their scope.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// The unspecified address of the family of `of`, with port 0.
pub fn any(of: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match of {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: SocketAddr) -> UdpSocket {
        let socket = UdpSocket::bind(any(server)).unwrap();
        socket.connect(server).unwrap();
        socket
    }

    #[test]
    fn connected_socket_receives_from_its_peer_and_the_listener_the_rest() {
        for bind in ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"] {
            let listener = listen(bind.parse().unwrap()).unwrap();
            let bound = listener.local_addr().unwrap();
            let mut asked = bound;
            if bound.ip().is_unspecified() {
                asked.set_ip(Ipv4Addr::new(127, 0, 0, 3).into());
            }
            let (one, other) = (client(asked), client(asked));
            let mut bytes = [0; 64];
            one.send(b"open").unwrap();
            let arrival = receive(&listener, bound, &mut bytes).unwrap().unwrap();
            assert_eq!(arrival.local, asked, "{bind}");
            assert_eq!(arrival.peer.port(), one.local_addr().unwrap().port());
            assert_eq!(&bytes[..arrival.length], b"open");

            let stream = unbound(arrival.local).unwrap();
            join(&stream, arrival.local, arrival.peer).unwrap();
            one.send(b"data").unwrap();
            other.send(b"more").unwrap();
            assert_eq!(stream.recv(&mut bytes).unwrap(), 4);
            assert_eq!(&bytes[..4], b"data");
            let arrival = receive(&listener, bound, &mut bytes).unwrap().unwrap();
            assert_eq!(&bytes[..arrival.length], b"more");
            assert!(receive(&listener, bound, &mut bytes).unwrap().is_none());
            // The reply has the requested address as its source.
            stream.send(b"hello").unwrap();
            assert_eq!(one.recv(&mut bytes).unwrap(), 5);
        }
    }
}
