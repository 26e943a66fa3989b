//! Kernel timestamps of received datagrams (socket(7); Documentation/networking/timestamping.rst).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::cmsg::{nanoseconds, next_control};
use super::socket;

/// Room for the control data: at most three timespecs after a header of 16 bytes. In words, since a cmsghdr is
/// word-aligned.
const CONTROL_WORDS: usize = 16;

/// The socket option that requests timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxTimestamps {
    /// `SO_TIMESTAMPNS`.
    Nanoseconds,
    /// `SO_TIMESTAMPING` with software receive timestamps.
    Software,
}

/// Requests a timestamp for each datagram the kernel receives.
///
/// # Errors
/// As setsockopt(2).
pub fn enable(socket: BorrowedFd<'_>, stamps: RxTimestamps) -> io::Result<()> {
    let (name, value) = match stamps {
        RxTimestamps::Nanoseconds => (libc::SO_TIMESTAMPNS, 1),
        RxTimestamps::Software => (
            libc::SO_TIMESTAMPING,
            libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE,
        ),
    };
    socket::set_int(socket, libc::SOL_SOCKET, name, value as libc::c_int)
}

/// Receives one datagram without waiting, and returns its timestamp in ns of wall time ([`super::clock::realtime_ns`]);
/// `None` without a timestamp.
///
/// # Errors
/// As recvmsg(2); `WouldBlock` if no datagram is queued.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: plain integers and pointers, for which all-zero is valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: the control buffer is writable and has the given length. Neither a name nor a vector is given, so the
    // payload is discarded.
    unsafe {
        syscall!(recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            libc::MSG_DONTWAIT
        ))?;
    }
    let written: usize = header.msg_controllen as _;
    let bytes: Vec<u8> = control.into_iter().flat_map(u64::to_ne_bytes).collect();
    let mut rest = bytes.get(..written).unwrap_or_default();
    while let Some((level, kind, content)) = next_control(&mut rest) {
        // SCM_TIMESTAMPING has three timestamps. The first is the software timestamp.
        if level == libc::SOL_SOCKET
            && [libc::SCM_TIMESTAMPNS, libc::SCM_TIMESTAMPING].contains(&kind)
        {
            return Ok(nanoseconds(content));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::realtime_ns;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn timestamp_lies_between_send_and_receive() {
        for stamps in [RxTimestamps::Nanoseconds, RxTimestamps::Software] {
            let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
            enable(receiver.as_fd(), stamps).unwrap();
            // The kernel starts to take timestamps with a delay after the first request, which is many ms on a busy
            // machine.
            let deadline = Instant::now() + Duration::from_secs(10);
            let (before, stamp) = loop {
                assert!(Instant::now() < deadline, "no datagram is stamped");
                let before = realtime_ns();
                receiver
                    .send_to(b"now", receiver.local_addr().unwrap())
                    .unwrap();
                if let Some(stamp) = receive(receiver.as_fd()).unwrap() {
                    break (before, stamp);
                }
            };
            assert!((before..=realtime_ns()).contains(&stamp), "{stamps:?}");
        }
    }
}
