//! Sending pages without copying them: through a pipe into a socket (vmsplice(2), splice(2)).

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::region::PAGE;

/// A pipe that holds one message at a time.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// With room for `bytes`, wherever in a page they begin.
    ///
    /// # Errors
    /// As pipe2(2) and `F_SETPIPE_SZ` of fcntl(2): out of file descriptors, or over the user's share of pipe pages.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: two writable ints.
        unsafe {
            syscall!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
        }
        // SAFETY: both are new descriptors that nobody else owns.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        // A pipe holds pages, however little of each is used, and a message may begin and end within one.
        let wanted = (bytes.div_ceil(PAGE) + 1).next_power_of_two() * PAGE;
        // SAFETY: takes no pointers.
        let size = unsafe { syscall!(fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ))? } as usize;
        if size < wanted {
            // SAFETY: as above.
            unsafe {
                syscall!(fcntl(
                    write.as_raw_fd(),
                    libc::F_SETPIPE_SZ,
                    wanted as libc::c_int
                ))?;
            }
        }
        Ok(Self { read, write })
    }

    /// Sends `bytes` as one message of `socket`, which must be non-blocking, and leaves the pipe empty. The receiver
    /// reads the very memory: what is written to it before that, it will read.
    ///
    /// # Errors
    /// As vmsplice(2), splice(2) and sendmsg(2); then nothing was sent.
    pub fn lend(&mut self, bytes: &[u8], socket: BorrowedFd<'_>) -> io::Result<()> {
        let vector = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: one vector over readable bytes. The pages stay alive by reference count, whatever becomes of them here.
        let lent = unsafe {
            syscall!(vmsplice(
                self.write.as_raw_fd(),
                &raw const vector,
                1,
                libc::SPLICE_F_NONBLOCK
            ))?
        } as usize;
        let sent = if lent == bytes.len() {
            self.splice(lent, socket)
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        };
        if sent.is_err() {
            self.empty();
        }
        sent
    }

    /// A message of up to 16 pages is sent at once or not at all (`splice_to_socket` in fs/splice.c); what is
    /// longer is held back by the kernel until its end has come.
    fn splice(&self, mut length: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        while length > 0 {
            // SAFETY: null offsets are what pipes and sockets ask for.
            let sent = unsafe {
                syscall!(splice(
                    self.read.as_raw_fd(),
                    ptr::null_mut(),
                    socket.as_raw_fd(),
                    ptr::null_mut(),
                    length,
                    libc::SPLICE_F_NONBLOCK
                ))?
            } as usize;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            length -= sent.min(length);
        }
        Ok(())
    }

    fn empty(&mut self) {
        let mut scratch = [0; PAGE];
        let Ok(read) = self.read.try_clone() else {
            return;
        };
        let mut read = std::fs::File::from(read);
        while matches!(read.read(&mut scratch), Ok(1..)) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_lent_arrives_as_one_datagram_and_a_refusal_leaves_nothing_behind() {
        let receiver = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut pipe = Pipe::new(65_507).unwrap();
        let sent: Vec<u8> = (0..65_507u32).map(|n| (n % 251) as u8).collect();
        // Not connected yet.
        assert!(pipe.lend(&sent, sender.as_fd()).is_err());
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        for length in [1, 4_096, 65_507] {
            pipe.lend(&sent[..length], sender.as_fd()).unwrap();
            let mut got = vec![0; 70_000];
            assert_eq!(receiver.recv(&mut got).unwrap(), length);
            assert_eq!(got[..length], sent[..length]);
        }
    }
}
