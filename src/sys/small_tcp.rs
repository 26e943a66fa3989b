//! TCP sockets whose segments fit every path, for connections without a need for throughput.
//!
//! A router that drops long packets and whose ICMP errors are filtered stalls a TCP connection permanently. With
//! segments of 1,200 bytes (`TCP_MAXSEG`, tcp(7)) packets stay within 1,280 bytes, the minimum MTU of IPv6 (RFC 8200,
//! section 5).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

/// Payload of a segment, in bytes.
const SEGMENT: u32 = 1_200;

/// Most connections waiting to be accepted.
const BACKLOG: i32 = 1_024;

/// A non-blocking listener. An unspecified IPv6 address also accepts IPv4.
///
/// # Errors
/// As socket(2), bind(2) and listen(2).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream(address)?;
    // Recently closed connections may still occupy the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts to connect, from the address of `local` with any port and over `device`, if given.
///
/// # Errors
/// As socket(2), bind(2) and connect(2), except `EINPROGRESS`; `EPERM` or `ENODEV` for a device.
pub fn connect(
    to: SocketAddr,
    local: Option<SocketAddr>,
    device: Option<&str>,
) -> io::Result<TcpStream> {
    let socket = stream(to)?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(mut local) = local {
        local.set_port(0);
        socket.bind(&local.into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn stream(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_mss(SEGMENT)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn both_ends_use_small_segments() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let near = connect(listener.local_addr().unwrap(), None, None).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let far = loop {
            match listener.accept() {
                Ok((far, _)) => break far,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(std::time::Instant::now() < deadline);
        };
        for end in [&near, &far] {
            assert!(SockRef::from(end).tcp_mss().unwrap() <= SEGMENT);
        }
    }

    #[test]
    fn missing_device_is_an_error() {
        let to = "127.0.0.1:9".parse().unwrap();
        assert!(connect(to, None, Some("no-such-device")).is_err());
    }
}
