//! `MSG_ZEROCOPY`: sends that pin pages (Documentation/networking/msg_zerocopy.rst). Completions arrive on the
//! [`error_queue`](super::error_queue).

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;

/// A range of completed sends. The kernel numbers the `MSG_ZEROCOPY` sends of each socket from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub(super) first: u32,
    pub(super) last: u32,
    /// The kernel copied the data.
    pub copied: bool,
}

impl Done {
    /// The numbers of the sends, modulo 2^32.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        let count: RangeInclusive<u32> = 0..=self.last.wrapping_sub(self.first);
        count.map(move |number| self.first.wrapping_add(number))
    }
}

/// Allows `MSG_ZEROCOPY` on `socket`.
///
/// # Errors
/// `ENOTSUPP` for UDP on kernels before 5.0.
pub fn enable(socket: BorrowedFd<'_>) -> io::Result<()> {
    super::socket::set_int(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::error_queue::{self, Entry};
    use crate::sys::mmap::Mmap;
    use crate::sys::mmsg::SendBatch;
    use crate::sys::socket;
    use std::os::fd::AsFd;

    #[test]
    fn every_send_completes_once_and_is_copied_on_loopback() {
        let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        if let Err(error) = enable(sender.as_fd()) {
            return println!("skipped: this kernel has no SO_ZEROCOPY for UDP: {error}");
        }
        let memory = Mmap::new(15_000).unwrap();
        let messages = [0, 5_000, 10_000].map(|start| memory.pages(start, 5_000).unwrap());
        let taken = SendBatch::new(3)
            .send_zerocopy(sender.as_fd(), messages.into_iter())
            .unwrap();
        assert_eq!(taken, 3);
        let mut bytes = [0; 5_000];
        for _ in 0..3 {
            receiver.recv(&mut bytes).unwrap();
        }
        let mut numbers = Vec::new();
        error_queue::read(sender.as_fd(), |entry| {
            let Entry::ZeroCopy(done) = entry else {
                panic!("{entry:?}");
            };
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
