//! How connections of the load generator begin.

use std::io;

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
            tcp::connected_from(&stream, *address)?;
            Ok(stream)
        }
        Endpoint::Unix(path) => unix::connect(path, None).map(TcpStream::from_std),
    }
}
