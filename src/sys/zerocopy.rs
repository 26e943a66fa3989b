//! `MSG_ZEROCOPY`: sends that pin pages, and what the error queue says of them
//! (Documentation/networking/msg_zerocopy.rst).

use std::io;
use std::mem;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends that the kernel is done with. It numbers them from 0, by socket, those with `MSG_ZEROCOPY` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    first: u32,
    last: u32,
    /// The data was copied all the same.
    pub copied: bool,
}

impl Done {
    /// Which sends, their numbers wrapping at 32 bits.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        let count: RangeInclusive<u32> = 0..=self.last.wrapping_sub(self.first);
        count.map(move |number| self.first.wrapping_add(number))
    }
}

/// Lets sends on `socket` use `MSG_ZEROCOPY`.
///
/// # Errors
/// `ENOTSUPP` for UDP on kernels before 5.0.
pub fn enable(socket: BorrowedFd<'_>) -> io::Result<()> {
    super::socket::set_int(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)
}

/// Tells of all sends that have been completed since it was last asked.
///
/// # Errors
/// As recvmsg(2), when the socket is useless.
pub fn completions(socket: BorrowedFd<'_>, mut each: impl FnMut(Done)) -> io::Result<()> {
    loop {
        let mut control = [0u64; 16];
        // SAFETY: plain integers and pointers, for which all zero is valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: the control buffer is writable and of the length stated; no name and no vector is given.
        let got = unsafe {
            syscall!(recvmsg(
                socket.as_raw_fd(),
                &raw mut header,
                libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT
            ))
        };
        match got {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // SAFETY: the kernel filled the header, whose control pointer is still good; the macros stay within
        // `msg_controllen`. An extended error is read by its length, unaligned.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&raw const header);
            while let Some(told) = next.as_ref() {
                let length = size_of::<libc::sock_extended_err>() as libc::c_uint;
                let kind = (told.cmsg_level, told.cmsg_type);
                let is_error = kind == (libc::SOL_IP, libc::IP_RECVERR)
                    || kind == (libc::SOL_IPV6, libc::IPV6_RECVERR);
                if is_error && told.cmsg_len >= libc::CMSG_LEN(length) as _ {
                    let error: libc::sock_extended_err = libc::CMSG_DATA(told)
                        .cast::<libc::sock_extended_err>()
                        .read_unaligned();
                    if (error.ee_errno, error.ee_origin) == (0, SO_EE_ORIGIN_ZEROCOPY) {
                        each(Done {
                            first: error.ee_info,
                            last: error.ee_data,
                            copied: u32::from(error.ee_code) & SO_EE_CODE_ZEROCOPY_COPIED != 0,
                        });
                    }
                }
                next = libc::CMSG_NXTHDR(&raw const header, told);
            }
        }
    }
}

// From linux/errqueue.h.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmsg::SendBatch;
    use crate::sys::socket;
    use std::os::fd::AsFd;

    #[test]
    fn every_send_is_completed_once_and_on_loopback_as_copied() {
        let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        if let Err(error) = enable(sender.as_fd()) {
            return println!("skipped: this kernel has no SO_ZEROCOPY for UDP: {error}");
        }
        let sent = [[7u8; 5_000]; 3];
        let messages = sent.iter().map(<[u8; 5_000]>::as_slice);
        let taken = SendBatch::new(3)
            .send(sender.as_fd(), messages, libc::MSG_ZEROCOPY)
            .unwrap();
        assert_eq!(taken, 3);
        let mut bytes = [0; 5_000];
        for _ in 0..3 {
            receiver.recv(&mut bytes).unwrap();
        }
        let mut numbers = Vec::new();
        completions(sender.as_fd(), |done| {
            assert!(done.copied);
            numbers.extend(done.numbers());
        })
        .unwrap();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn numbers_wrap() {
        let done = Done {
            first: u32::MAX,
            last: 1,
            copied: false,
        };
        assert!(done.numbers().eq([u32::MAX, 0, 1]));
    }
}
