//! TCP listeners, and options of TCP sockets that a proxy sets or reads: tcp(7), socket(7).

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Most connections waiting to be accepted. The kernel limits the value to `net.core.somaxconn` (listen(2)).
pub const BACKLOG: i32 = 4_096;

/// A non-blocking listener. With `shared` several listeners share the port, and the kernel distributes connections
/// among them (`SO_REUSEPORT`). An unspecified IPv6 address also accepts IPv4. Accepted sockets inherit the options of
/// [`for_relaying`].
///
/// # Errors
/// As socket(2), bind(2) and listen(2). `EADDRINUSE` also if another listener is not `shared`.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    listen_on(address, shared, false)
}

/// Like [`listen`]. With `only_v6` an IPv6 listener leaves IPv4 to others (`IPV6_V6ONLY`, ipv6(7)).
///
/// # Errors
/// As [`listen`].
pub fn listen_on(address: SocketAddr, shared: bool, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Recently closed connections may still occupy the port.
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

/// An unconnected socket of the family of `address`, with the options of [`for_relaying`].
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

/// Starts to connect. The socket becomes writable when connected and has the options of [`for_relaying`]. With
/// `speaks`, the client sends first: the final acknowledgement of the handshake is delayed and leaves with the first
/// data, which saves a packet and a wake-up of the server (`TCP_QUICKACK`, tcp(7); `tcp_rcv_synsent_state_process`). The
/// kernel sends it anyway after a while. It delays later ones too, until [`acknowledge_at_once`].
///
/// # Errors
/// As socket(2), setsockopt(2) and connect(2), except `EINPROGRESS`.
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

/// Acknowledges the next data at once. Otherwise a server that waits for it between two small writes (Nagle's algorithm,
/// RFC 9293, section 3.7.4) waits for 40 ms.
///
/// # Errors
/// As setsockopt(2).
pub fn acknowledge_at_once(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_quickack(true)
}

/// Whether connecting a socket with the local address `local` to `to` connects it to itself. This happens if `to` has a
/// port of `ip_local_port_range` without a listener: connect(2) may select that port as the local port, and the two
/// ends open each other (RFC 9293, section 3.5, simultaneous open). Such a connection echoes, and blocks the port for a
/// listener.
pub fn is_to_itself(local: SocketAddr, to: SocketAddr) -> bool {
    let (here, there) = (local.ip().to_canonical(), to.ip().to_canonical());
    // Connecting to the unspecified address connects to loopback.
    local.port() == to.port() && (here == there || there.is_unspecified() && here.is_loopback())
}

/// Sends small writes at once (`TCP_NODELAY`), keeps urgent data in the stream (`SO_OOBINLINE`), and probes a silent
/// peer with the system's defaults (`SO_KEEPALIVE`; `net.ipv4.tcp_keepalive_time`, tcp(7)).
///
/// # Errors
/// As setsockopt(2).
pub fn for_relaying(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_out_of_band_inline(true)
}

/// Meaning of a failed accept(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptError {
    /// No connection is waiting.
    WouldBlock,
    /// Out of file descriptors or memory. The connection stays in the backlog.
    Exhausted,
    /// One connection failed. The next can be accepted (accept(2), "Error handling").
    ClientGone,
    /// The socket is not a listener, so accept(2) will fail again.
    NoListener,
}

impl AcceptError {
    /// Classifies an error of accept(2).
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Self::WouldBlock,
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) => Self::NoListener,
            _ if super::rlimit::is_exhausted(error) => Self::Exhausted,
            // ECONNABORTED, EINTR, EPROTO, EPERM of a firewall, and network errors of the client.
            _ => Self::ClientGone,
        }
    }
}

/// The address of the peer, even after the peer has reset the connection, when getpeername(2) fails (`ENOTCONN`) but
/// `SO_PEERNAME` does not.
///
/// # Errors
/// As getsockopt(2).
pub fn peer(socket: &impl AsFd) -> io::Result<SocketAddr> {
    if let Ok(address) = SockRef::from(socket).peer_addr() {
        return address.as_socket().ok_or(ErrorKind::Unsupported.into());
    }
    // The kernel refuses room larger than the address (sk_getsockopt, net/core/sock.c).
    let lengths = [
        size_of::<libc::sockaddr_in6>(),
        size_of::<libc::sockaddr_in>(),
    ];
    let mut outcome = Err(ErrorKind::Unsupported.into());
    for room in lengths {
        // SAFETY: `storage` has room for every address, and the kernel writes `room` bytes.
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

/// An address for logs and comparisons: IPv4-mapped IPv6 addresses of dual-stack sockets become IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The local address of a socket connected to `peer`. If the socket is connected to itself ([`is_to_itself`]), its
/// close becomes a reset, so that its port is free at once.
///
/// # Errors
/// `ECONNREFUSED` if the socket is connected to itself; as getsockname(2).
pub fn connected_from(socket: &impl AsFd, peer: SocketAddr) -> io::Result<SocketAddr> {
    let local = SockRef::from(socket).local_addr()?.as_socket();
    let local = local.ok_or_else(|| io::Error::from(ErrorKind::Unsupported))?;
    if is_to_itself(local, peer) {
        reset_on_close(socket)?;
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(local)
}

/// State of unread input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// No data yet.
    Nothing,
    /// Data.
    Data,
    /// End of the stream, without data before it.
    End,
    /// The connection was reset.
    Broken,
}

/// Checks the result of the next read with `MSG_PEEK`, without waiting.
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

/// Sends as much as the socket accepts. With `more`, an incomplete segment is delayed (`MSG_MORE`), to leave with data
/// or a shutdown that follows at once.
///
/// # Errors
/// As send(2).
pub fn send(socket: &impl AsFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    // socket2 sets `MSG_NOSIGNAL` only in its plain send.
    let more = if more { libc::MSG_MORE } else { 0 };
    SockRef::from(socket).send_with_flags(bytes, libc::MSG_NOSIGNAL | more)
}

/// Bytes of the send queue that the peer has not acknowledged, where the end of the stream counts as one (`SIOCOUTQ`, tcp(7)). The
/// queue of a Unix socket is measured in memory that the peer has not read (unix(7)).
///
/// # Errors
/// As ioctl(2).
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int (tcp_ioctl, net/ipv4/tcp.c), for which `bytes` has room.
    unsafe {
        syscall!(ioctl(
            socket.as_fd().as_raw_fd(),
            libc::TIOCOUTQ,
            &raw mut bytes
        ))?
    };
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Whether the connection was reset, or failed otherwise (`SO_ERROR`, socket(7)). This clears the error.
pub fn is_broken(socket: &impl AsFd) -> bool {
    !matches!(SockRef::from(socket).take_error(), Ok(None))
}

/// Payload bytes of a full segment at present (`TCP_MAXSEG`). It may grow after the first data of a connection.
///
/// # Errors
/// As getsockopt(2).
pub fn segment(socket: &impl AsFd) -> io::Result<usize> {
    SockRef::from(socket).tcp_mss().map(|bytes| bytes as usize)
}

/// Makes the close of this socket a reset: unsent data are discarded, and the peer sees a broken connection
/// (`SO_LINGER` with time 0, socket(7)).
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
    fn shared_listeners_share_a_port() {
        let first = listen(any_port(), true).unwrap();
        let address = first.local_addr().unwrap();
        listen(address, true).unwrap();
        let refused = listen(address, false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn segment_size_is_known_and_small_writes_leave_at_once() {
        let (near, _far) = pair();
        for_relaying(&near).unwrap();
        assert!(near.nodelay().unwrap());
        assert!(segment(&near).unwrap() >= 536);
    }

    #[test]
    fn delayed_data_leave_with_the_end() {
        let (near, mut far) = pair();
        far.set_nonblocking(true).unwrap();
        for_relaying(&near).unwrap();
        assert_eq!(send(&near, b"the last", true).unwrap(), 8);
        let early = far.read(&mut [0; 9]).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
        near.shutdown(std::net::Shutdown::Write).unwrap();
        far.set_nonblocking(false).unwrap();
        let mut bytes = String::new();
        far.read_to_string(&mut bytes).unwrap();
        assert_eq!(bytes, "the last");
    }

    #[test]
    fn client_that_sends_first_connects_like_others() {
        for speaks in [false, true] {
            let listener = TcpListener::bind(any_port()).unwrap();
            let near = connect(listener.local_addr().unwrap(), speaks).unwrap();
            near.set_nonblocking(false).unwrap();
            assert!(near.nodelay().unwrap());
            assert_eq!(send(&near, b"hello", false).unwrap(), 5);
            let mut bytes = [0; 5];
            listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
        }
    }

    #[test]
    fn peer_of_a_reset_connection_is_known() {
        let listener = TcpListener::bind(any_port()).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = near.local_addr().unwrap();
        let far = listener.accept().unwrap().0;
        assert_eq!(unread(&far), Unread::Nothing);
        assert!(!is_broken(&far));
        assert_eq!(peer(&far).unwrap(), address);
        reset_on_close(&near).unwrap();
        drop(near);
        assert_eq!(unread(&far), Unread::Broken);
        assert_eq!(peer(&far).unwrap(), address);
    }

    #[test]
    fn unread_input_is_classified_and_stays_unread() {
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
    fn connection_to_itself_is_refused_and_frees_its_port() {
        // Binding first makes the simultaneous open certain.
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
    fn connection_to_itself_is_detected() {
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
    fn acknowledged_bytes_leave_the_send_queue() {
        let (near, _far) = pair();
        assert_eq!(unacknowledged(&near).unwrap(), 0);
        near.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = (&near).write(&[7; 100_000]) {
            sent += bytes as u64;
        }
        let queued = unacknowledged(&near).unwrap();
        assert!(0 < queued && queued < sent, "{queued} of {sent}");
    }

    #[test]
    fn reset_differs_from_the_end() {
        let (near, mut far) = pair();
        reset_on_close(&near).unwrap();
        drop(near);
        let error = far.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
