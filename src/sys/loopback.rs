//! Sockets on loopback, for trials of the kernel's features.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::socket;

/// A UDP sender and the receiver that it is connected to.
///
/// # Errors
/// As socket(2), bind(2) and connect(2).
pub fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let receiver = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    let sender = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    sender.connect(receiver.local_addr()?)?;
    Ok((sender, receiver))
}

/// Repeats `attempt` for up to 50 ms while it fails with `WouldBlock`. Loopback delivers at once, unless the kernel
/// steers packets to another CPU.
///
/// # Errors
/// Those of `attempt`; `TimedOut` after 50 ms.
pub fn retry_for_50_ms<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the kernel accepted the request, but no result arrived within 50 ms",
    ))
}

/// The error for an option or request that the kernel accepted without effect.
pub fn no_effect(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_with_a_timeout() {
        let error = retry_for_50_ms(|| -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
