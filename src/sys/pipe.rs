//! Zero-copy transfer into a socket through a pipe: from another socket (splice(2)) or from memory (vmsplice(2));
//! pipe(7).

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::mmap::{PAGE, Pages};

/// A pipe in front of a socket.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipe {
    /// Creates a pipe with room for `bytes`, or less if the kernel refuses; see [`Self::size`].
    ///
    /// # Errors
    /// As pipe2(2): out of file descriptors or memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: two writable ints.
        unsafe {
            syscall!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
        }
        // SAFETY: both are new descriptors without another owner.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // Refused if the user has too many pipe pages. The size is read back below. SAFETY: takes no pointers.
        let _ = unsafe { syscall!(fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, wanted)) };
        // SAFETY: takes no pointers.
        let size = unsafe { syscall!(fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ))? } as usize;
        Ok(Self { read, write, size })
    }

    /// Creates a pipe with room for a message of `bytes` at any alignment.
    ///
    /// # Errors
    /// As [`Self::new`]; `PermissionDenied` if the user's limit of pipe pages makes it smaller.
    pub fn for_message(bytes: usize) -> io::Result<Self> {
        // A pipe counts pages, however little of each is used, and a message may start and end within a page.
        let wanted = (bytes.div_ceil(PAGE) + 1).next_power_of_two() * PAGE;
        let pipe = Self::new(wanted)?;
        if pipe.size < wanted {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(pipe)
    }

    /// Capacity in bytes (`F_GETPIPE_SZ`) if every page is full. A pipe holds one piece of a page per page.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Moves up to `most` bytes from a stream socket into the pipe. 0 is the end of the stream.
    ///
    /// # Errors
    /// `EAGAIN` if the socket has no data or the pipe is full; otherwise as recv(2).
    pub fn fill(&self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        splice(from, self.write.as_fd(), most)
    }

    /// Moves up to `most` bytes from the pipe to a socket.
    ///
    /// # Errors
    /// `EAGAIN` if the socket has no room or the pipe is empty; otherwise as send(2).
    pub fn drain(&self, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        splice(self.read.as_fd(), to, most)
    }

    /// Sends `pages` as one message of `socket`, which must be non-blocking, and leaves the pipe empty. The receiver
    /// reads the memory itself, including later changes of it.
    ///
    /// # Errors
    /// As vmsplice(2), splice(2) and sendmsg(2); then nothing was sent.
    pub fn send_pages(&mut self, pages: Pages<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
        let bytes = pages.bytes();
        let vector = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: one vector over readable bytes. The pages stay alive by reference count and belong to a mapping, so
        // they never contain other data.
        let lent = unsafe {
            syscall!(vmsplice(
                self.write.as_raw_fd(),
                &raw const vector,
                1,
                libc::SPLICE_F_NONBLOCK
            ))?
        } as usize;
        let sent = if lent == bytes.len() {
            self.drain_all(lent, socket)
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        };
        if sent.is_err() {
            self.empty();
        }
        sent
    }

    /// A message of up to 16 pages is sent at once or not at all (`splice_to_socket` in fs/splice.c). The kernel delays
    /// a longer one until its end.
    fn drain_all(&self, mut length: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        while length > 0 {
            match self.drain(socket, length)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => length -= sent.min(length),
            }
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

/// Without `SPLICE_F_MORE`, which would delay the end of a burst by 200 ms.
fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    // SAFETY: pipes and sockets require null offsets. No memory of this process is accessed.
    let moved = unsafe {
        syscall!(splice(
            from.as_raw_fd(),
            ptr::null_mut(),
            to.as_raw_fd(),
            ptr::null_mut(),
            most,
            libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE
        ))?
    };
    Ok(moved as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_pass_from_socket_to_socket_and_the_end_differs_from_no_data() {
        let (mut client, inbound) = pair();
        let (outbound, mut server) = pair();
        inbound.set_nonblocking(true).unwrap();
        let pipe = Pipe::new(1 << 20).unwrap();
        assert!(pipe.size() >= 4_096);
        let empty = pipe.fill(inbound.as_fd(), 100).unwrap_err();
        assert_eq!(empty.kind(), ErrorKind::WouldBlock);
        client.write_all(b"hello").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(pipe.fill(inbound.as_fd(), 100).unwrap(), 5);
        assert_eq!(pipe.drain(outbound.as_fd(), 100).unwrap(), 5);
        assert_eq!(pipe.fill(inbound.as_fd(), 100).unwrap(), 0);
        let nothing = pipe.drain(outbound.as_fd(), 100).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        let mut got = [0; 5];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }

    #[test]
    fn spliced_pages_arrive_as_one_datagram_and_a_refusal_leaves_the_pipe_empty() {
        let receiver = crate::sys::socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = crate::sys::socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut pipe = Pipe::for_message(65_507).unwrap();
        let mut memory = crate::sys::mmap::Mmap::new(65_507).unwrap();
        let bytes = memory.part_mut(0, 65_507).unwrap();
        bytes
            .iter_mut()
            .zip((0..251).cycle())
            .for_each(|(byte, n)| *byte = n);
        let sent = |length| memory.pages(0, length).unwrap();
        // Not connected yet.
        assert!(pipe.send_pages(sent(65_507), sender.as_fd()).is_err());
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        for length in [1, 4_096, 65_507] {
            pipe.send_pages(sent(length), sender.as_fd()).unwrap();
            let mut got = vec![0; 70_000];
            assert_eq!(receiver.recv(&mut got).unwrap(), length);
            assert_eq!(&got[..length], sent(length).bytes());
        }
    }
}
