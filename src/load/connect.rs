//! Connecting, for the load generator.

use std::io;

use mio::net::TcpStream;

use crate::sys::endpoint::Endpoint;
use crate::sys::{tcp, unix};

/// Starts a non-blocking connect.
///
/// # Errors
/// As socket(2) and connect(2), and `ECONNREFUSED` where the socket would connect to itself.
pub(super) fn start(to: &Endpoint) -> io::Result<TcpStream> {
    match to {
        Endpoint::Ip(address) => {
            let stream = TcpStream::connect(*address)?;
            tcp::connected_from(&stream, *address)?;
            Ok(stream)
        }
        Endpoint::Unix(path) => unix::connect(path, None).map(TcpStream::from_std),
    }
}
