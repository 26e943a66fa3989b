//! From one socket to another without a copy to user memory: into a pipe and out of it (splice(2), pipe(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// A pipe between two sockets.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipe {
    /// Asks for room for `bytes` and takes what it gets: see [`Self::size`].
    ///
    /// # Errors
    /// As pipe2(2): out of file descriptors or memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: two writable ints.
        unsafe {
            syscall!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
        }
        // SAFETY: both are new descriptors that nobody else owns.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // Refused to users over their share of pipe pages; the size read back tells.
        // SAFETY: takes no pointers.
        let _ = unsafe { syscall!(fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, wanted)) };
        // SAFETY: takes no pointers.
        let size = unsafe { syscall!(fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ))? } as usize;
        Ok(Self { read, write, size })
    }

    /// Room in bytes as the kernel has it (`F_GETPIPE_SZ`), if every page of it were full: a pipe holds pieces of pages,
    /// one a page.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes up to `most` bytes from a stream socket. 0 is its end.
    ///
    /// # Errors
    /// `EAGAIN` when the socket has nothing or the pipe no room; else as recv(2).
    pub fn fill(&self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        splice(from, self.write.as_fd(), most)
    }

    /// Hands up to `most` bytes to a stream socket.
    ///
    /// # Errors
    /// `EAGAIN` when the socket has no room or the pipe nothing; else as send(2).
    pub fn drain(&self, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        splice(self.read.as_fd(), to, most)
    }
}

/// Never with `SPLICE_F_MORE`: the kernel would hold the end of a burst back for 200 ms.
fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    // SAFETY: null offsets are what pipes and sockets ask for; no memory of ours is touched.
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
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_go_from_socket_to_socket_and_an_end_is_told_from_nothing_yet() {
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
}
