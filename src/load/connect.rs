//! How connections of the load generator and of the client begin.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::sys::endpoint::Endpoint;
use crate::sys::{tcp, unix};

/// Begins to connect, without blocking.
///
/// # Errors
/// As socket(2) and connect(2). `ECONNREFUSED` also where the connection would be one to itself.
pub(super) fn begin(to: &Endpoint) -> io::Result<TcpStream> {
    match to {
        Endpoint::Ip(address) => {
            let stream = TcpStream::connect(*address)?;
            refuse_itself(stream.local_addr()?, *address)?;
            Ok(stream)
        }
        Endpoint::Unix(path) => unix::connect(path, None).map(TcpStream::from_std),
    }
}

/// Nobody listens at `to`, and the connection would answer itself.
///
/// # Errors
/// That, as connect(2) says it of a port where nobody listens.
pub(super) fn refuse_itself(local: SocketAddr, to: SocketAddr) -> io::Result<()> {
    match tcp::is_to_itself(local, to) {
        true => Err(ErrorKind::ConnectionRefused.into()),
        false => Ok(()),
    }
}
