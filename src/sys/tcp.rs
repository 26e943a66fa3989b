//! TCP listeners, and the options of TCP sockets that a proxy sets or reads: tcp(7), socket(7).

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Connections that may wait to be accepted; the kernel takes `net.core.somaxconn` at most (listen(2)).
pub const BACKLOG: i32 = 4_096;

/// A non-blocking listener, or with `shared` one of several on the same port, among which the kernel spreads
/// connections (`SO_REUSEPORT`). An IPv6 one takes IPv4 too where its address is unspecified. What it accepts inherits the
/// options of [`for_relaying`].
///
/// # Errors
/// As socket(2), bind(2) and listen(2). `EADDRINUSE` also where another listener is not `shared`.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    listen_on(address, shared, false)
}

/// The same; an IPv6 one with `only_v6` leaves IPv4 to others (`IPV6_V6ONLY`, ipv6(7)).
///
/// # Errors
/// As [`listen`].
pub fn listen_on(address: SocketAddr, shared: bool, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // The port may still be held by connections that ended lately.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if only_v6 && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    for_relaying(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that is yet to be connected to an address like this one, with the options of [`for_relaying`].
///
/// # Errors
/// As socket(2) and setsockopt(2).
pub fn unconnected(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    for_relaying(&socket)?;
    Ok(socket.into())
}

/// Begins to connect; the socket is writable when that is done, and has the options of [`for_relaying`]. Where it
/// `speaks` first, the acknowledgement that ends the handshake waits for its first bytes and leaves with them: a packet
/// fewer, and the server is woken once. The kernel sends it by itself after a while, and later ones at once
/// (`TCP_QUICKACK`, tcp(7); `tcp_rcv_synsent_state_process`).
///
/// # Errors
/// As socket(2), setsockopt(2) and connect(2), but for `EINPROGRESS`.
pub fn connect(address: SocketAddr, speaks: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    for_relaying(&socket)?;
    if speaks {
        socket.set_tcp_quickack(false)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Whether a socket whose own end is `local` is or will be connected to itself by connecting to `to`. It happens where `to` has a
/// port of `ip_local_port_range` that nobody listens on: connect(2) may pick that port for the near end, and the two ends
/// open each other (RFC 9293, section 3.5, simultaneous open). Such a connection echoes, and keeps the port from a listener.
pub fn is_to_itself(local: SocketAddr, to: SocketAddr) -> bool {
    let (here, there) = (local.ip().to_canonical(), to.ip().to_canonical());
    // Connecting to no address goes to loopback.
    local.port() == to.port() && (here == there || there.is_unspecified() && here.is_loopback())
}

/// Sends small writes at once (`TCP_NODELAY`), leaves urgent data in line with the rest (`SO_OOBINLINE`), and probes a
/// silent peer by the system's defaults (`SO_KEEPALIVE`; `net.ipv4.tcp_keepalive_time`, tcp(7)).
///
/// # Errors
/// As setsockopt(2).
pub fn for_relaying(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_out_of_band_inline(true)
}

/// What a failed accept(2) means for the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptError {
    /// No client waits.
    WouldBlock,
    /// File descriptors or memory ran out; the client stays in the backlog.
    Exhausted,
    /// One client is gone; the next one can be accepted (accept(2), "Error handling").
    ClientGone,
    /// The socket is no listener; accept(2) will fail again.
    NoListener,
}

impl AcceptError {
    /// Classifies an error of accept(2).
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Self::WouldBlock,
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) => Self::NoListener,
            _ if super::rlimit::is_exhausted(error) => Self::Exhausted,
            // ECONNABORTED, EINTR, EPROTO, EPERM of a firewall, and the errors of the client's network.
            _ => Self::ClientGone,
        }
    }
}

/// The peer of a socket, also after the peer has reset the connection: getpeername(2) fails then (`ENOTCONN`), and
/// `SO_PEERNAME` does not.
///
/// # Errors
/// As getsockopt(2).
pub fn peer(socket: &impl AsFd) -> io::Result<SocketAddr> {
    if let Ok(address) = SockRef::from(socket).peer_addr() {
        return address.as_socket().ok_or(ErrorKind::Unsupported.into());
    }
    // The kernel takes no room larger than the address (sk_getsockopt, net/core/sock.c).
    let lengths = [
        size_of::<libc::sockaddr_in6>(),
        size_of::<libc::sockaddr_in>(),
    ];
    let mut outcome = Err(ErrorKind::Unsupported.into());
    for room in lengths {
        // SAFETY: `storage` has room for every address, and the kernel writes `room` bytes of one.
        let named = unsafe {
            SockAddr::try_init(|storage, length| {
                *length = room as libc::socklen_t;
                syscall!(getsockopt(
                    socket.as_fd().as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_PEERNAME,
                    storage.cast(),
                    length
                ))
                .map(drop)
            })
        };
        outcome = named
            .and_then(|((), address)| address.as_socket().ok_or(ErrorKind::Unsupported.into()));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// An address as it is logged and compared: IPv4 that a dual-stack socket gives as IPv6 is IPv4 again.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The local address of a socket that connect(2) has connected to `peer`. The close of a socket that is connected to
/// itself ([`is_to_itself`]) becomes a reset, so that its port is free at once.
///
/// # Errors
/// `ECONNREFUSED` for a socket that is connected to itself; as getsockname(2).
pub fn connected_from(socket: &impl AsFd, peer: SocketAddr) -> io::Result<SocketAddr> {
    let local = SockRef::from(socket).local_addr()?.as_socket();
    let local = local.ok_or_else(|| io::Error::from(ErrorKind::Unsupported))?;
    if is_to_itself(local, peer) {
        reset_on_close(socket)?;
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(local)
}

/// What a socket that nobody reads from has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// Nothing yet.
    Nothing,
    /// Bytes.
    Data,
    /// The end of the stream, and no bytes before.
    End,
    /// The connection is reset.
    Broken,
}

/// Looks at what the next read would give, without taking it (`MSG_PEEK`) and without waiting.
pub fn unread(socket: &impl AsFd) -> Unread {
    let mut byte = [MaybeUninit::uninit()];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    match SockRef::from(socket).recv_with_flags(&mut byte, flags) {
        Ok(0) => Unread::End,
        Ok(_) => Unread::Data,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Unread::Nothing
        }
        Err(_) => Unread::Broken,
    }
}

/// Sends what the socket has room for. With `more`, what does not fill a segment is kept back (`MSG_MORE`) to leave
/// together with what follows at once: the end, when the socket is shut or closed next.
///
/// # Errors
/// As send(2).
pub fn send(socket: &impl AsFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    // Never a signal: socket2 asks for `MSG_NOSIGNAL` itself in its plain send alone.
    let more = if more { libc::MSG_MORE } else { 0 };
    SockRef::from(socket).send_with_flags(bytes, libc::MSG_NOSIGNAL | more)
}

/// Bytes of data in a full segment as it is sent now (`TCP_MAXSEG`). It grows once a connection has carried some.
///
/// # Errors
/// As getsockopt(2).
pub fn segment(socket: &impl AsFd) -> io::Result<usize> {
    SockRef::from(socket).tcp_mss().map(|bytes| bytes as usize)
}

/// Makes the close of this socket a reset: what was not sent yet is thrown away, and the other end is told that the
/// connection broke (`SO_LINGER` of no time, socket(7)).
///
/// # Errors
/// As setsockopt(2).
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(any_port()).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn a_port_is_shared_by_those_who_want_to() {
        let first = listen(any_port(), true).unwrap();
        let address = first.local_addr().unwrap();
        listen(address, true).unwrap();
        let refused = listen(address, false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_segment_of_a_connection_is_known_and_small_writes_leave_at_once() {
        let (near, _far) = pair();
        for_relaying(&near).unwrap();
        assert!(near.nodelay().unwrap());
        assert!(segment(&near).unwrap() >= 536);
    }

    #[test]
    fn what_is_kept_back_leaves_with_the_end() {
        let (near, mut far) = pair();
        far.set_nonblocking(true).unwrap();
        for_relaying(&near).unwrap();
        assert_eq!(send(&near, b"the last", true).unwrap(), 8);
        let early = far.read(&mut [0; 9]).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
        near.shutdown(std::net::Shutdown::Write).unwrap();
        far.set_nonblocking(false).unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "the last");
    }

    #[test]
    fn who_speaks_first_connects_as_others_do() {
        for speaks in [false, true] {
            let listener = TcpListener::bind(any_port()).unwrap();
            let near = connect(listener.local_addr().unwrap(), speaks).unwrap();
            near.set_nonblocking(false).unwrap();
            assert!(near.nodelay().unwrap());
            assert_eq!(send(&near, b"hello", false).unwrap(), 5);
            let mut heard = [0; 5];
            listener.accept().unwrap().0.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello");
        }
    }

    #[test]
    fn the_peer_of_a_reset_connection_is_known() {
        let listener = TcpListener::bind(any_port()).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = near.local_addr().unwrap();
        let far = listener.accept().unwrap().0;
        assert_eq!(unread(&far), Unread::Nothing);
        assert_eq!(peer(&far).unwrap(), address);
        reset_on_close(&near).unwrap();
        drop(near);
        assert_eq!(unread(&far), Unread::Broken);
        assert_eq!(peer(&far).unwrap(), address);
    }

    #[test]
    fn data_the_end_and_nothing_are_told_apart_and_stay_unread() {
        let (mut near, mut far) = pair();
        assert_eq!(unread(&far), Unread::Nothing);
        near.write_all(b"a").unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        far.read_exact(&mut [0; 0]).unwrap();
        while unread(&far) == Unread::Nothing {}
        assert_eq!(unread(&far), Unread::Data);
        assert_eq!(far.read(&mut [0; 9]).unwrap(), 1);
        assert_eq!(far.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(unread(&far), Unread::End);
    }

    #[test]
    fn a_socket_connected_to_itself_is_refused_and_lets_its_port_go() {
        // Bound first, so that the crossing of both SYNs needs no luck.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&any_port().into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        let own = own.as_socket().unwrap();
        let error = connected_from(&socket, own).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        drop(socket);
        TcpListener::bind(own).unwrap();
        let (near, _far) = pair();
        let peer = near.peer_addr().unwrap();
        assert_eq!(
            connected_from(&near, peer).unwrap(),
            near.local_addr().unwrap()
        );
    }

    #[test]
    fn errors_of_accept_are_classified_by_name() {
        for (errno, class) in [
            (libc::EAGAIN, AcceptError::WouldBlock),
            (libc::EMFILE, AcceptError::Exhausted),
            (libc::ENFILE, AcceptError::Exhausted),
            (libc::ENOBUFS, AcceptError::Exhausted),
            (libc::ENOMEM, AcceptError::Exhausted),
            (libc::ECONNABORTED, AcceptError::ClientGone),
            (libc::EPROTO, AcceptError::ClientGone),
            (libc::EINTR, AcceptError::ClientGone),
            (libc::EPERM, AcceptError::ClientGone),
            (libc::EBADF, AcceptError::NoListener),
            (libc::EINVAL, AcceptError::NoListener),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(AcceptError::of(&error), class, "{error}");
        }
    }

    #[test]
    fn a_connection_to_itself_is_told_from_others() {
        for (local, to, itself) in [
            ("127.0.0.1:4000", "127.0.0.1:4000", true),
            ("127.0.0.1:4001", "127.0.0.1:4000", false),
            ("127.0.0.1:4000", "127.0.0.2:4000", false),
            ("127.0.0.1:4000", "0.0.0.0:4000", true),
            ("10.0.0.1:4000", "0.0.0.0:4000", false),
            ("[::1]:4000", "[::]:4000", true),
            ("[::ffff:127.0.0.1]:4000", "127.0.0.1:4000", true),
        ] {
            let of = |text: &str| text.parse().unwrap();
            assert_eq!(is_to_itself(of(local), of(to)), itself, "{local} {to}");
        }
    }

    #[test]
    fn a_reset_is_no_end() {
        let (near, mut far) = pair();
        reset_on_close(&near).unwrap();
        drop(near);
        let error = far.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
