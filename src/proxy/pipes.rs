//! The pipes of a thread. A flow occupies a pipe only while it has bytes in it, so few pipes serve many connections.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use crate::sys::pipe::Pipe;

/// Requested capacity in bytes. A pipe consists of slots for one page each, so one of 64 KiB is full after 16 pieces,
/// however short; a chunk of 64 KiB arrives in up to 17 pieces a segment. A larger capacity would only use up the user's
/// share of pipe pages (`pipe-user-pages-soft`, 64 MiB).
const CAPACITY: usize = 256 << 10;

/// The least capacity in bytes that makes splice(2) worthwhile. Users over their share of pipe pages get less (pipe(7)).
const MIN_CAPACITY: usize = 64 << 10;

/// The pipes of a thread.
#[derive(Debug)]
pub(super) struct PipePool {
    idle: Vec<Pipe>,
    /// Idle pipes and those in use.
    open: usize,
    most: usize,
    refusals: u64,
}

impl PipePool {
    /// A pool of at most `most` pipes, each created at its first use.
    pub(super) fn new(most: usize) -> Self {
        Self {
            idle: Vec::new(),
            open: 0,
            most,
            refusals: 0,
        }
    }

    /// How often the kernel granted no pipe, or only a small one, or did not support splice(2) from a socket, or the limit of
    /// open files permitted no pipe at all.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Splices up to `most` bytes from a stream socket into a pipe, which goes back by [`Self::release`].
    ///
    /// # Errors
    /// As [`Pipe::fill`].
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<PipeFill> {
        let Some(pipe) = self.take() else {
            return Ok(PipeFill::NoPipe);
        };
        match pipe.fill(from, most) {
            Ok(bytes) if bytes > 0 => Ok(PipeFill::Bytes(pipe, bytes)),
            Err(error) if is_unsupported(&error) => {
                self.release(pipe, 0);
                self.refusals += 1;
                Ok(PipeFill::NoPipe)
            }
            nothing => {
                self.release(pipe, 0);
                nothing.map(|_| PipeFill::End)
            }
        }
    }

    /// An empty pipe; `None` when all are in use, or the kernel grants no more or only small ones.
    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.open >= self.most {
            self.refusals += u64::from(self.most == 0);
            return None;
        }
        let pipe = Pipe::new(CAPACITY).ok();
        let pipe = pipe.filter(|pipe| pipe.size() >= MIN_CAPACITY);
        match pipe {
            Some(_) => self.open += 1,
            None => self.refusals += 1,
        }
        pipe
    }

    /// Returns a pipe to the pool. A pipe that still contains bytes is closed, as the next flow would send them.
    pub(super) fn release(&mut self, pipe: Pipe, contained: usize) {
        if contained == 0 {
            self.idle.push(pipe);
        } else {
            self.open -= 1;
        }
    }

    /// Closes the idle pipes, which occupy two file descriptors each.
    pub(super) fn shrink(&mut self) {
        self.open -= self.idle.len();
        self.idle.clear();
    }
}

/// Whether splice(2) does not support the socket, or a filter of system calls denies it (seccomp(2)). A receive has none of
/// these errors.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
    )
}

/// The outcome of [`PipePool::fill`].
#[derive(Debug)]
pub(super) enum PipeFill {
    /// The pipe contains so many bytes, more than zero.
    Bytes(Pipe, usize),
    /// The source has ended.
    End,
    /// No pipe is available.
    NoPipe,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::eventfd::EventFd;
    use std::os::fd::AsFd;

    #[test]
    fn idle_pipes_are_reused() {
        let mut pool = PipePool::new(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        pool.release(first, 0);
        pool.release(second, 0);
        assert_eq!(pool.idle.len(), 2);
        pool.take().unwrap();
    }

    #[test]
    fn a_pipe_that_contains_bytes_is_closed() {
        let mut pool = PipePool::new(1);
        let pipe = pool.take().unwrap();
        pool.release(pipe, 1);
        assert_eq!((pool.idle.len(), pool.open), (0, 0));
        assert!(pool.take().is_some());
    }

    #[test]
    fn a_source_that_splice_does_not_support_counts_as_a_refusal() {
        let mut pool = PipePool::new(1);
        let source = EventFd::new().unwrap();
        let filled = pool.fill(source.as_fd(), 1);
        assert!(matches!(filled, Ok(PipeFill::NoPipe)), "{filled:?}");
        assert_eq!((pool.refusals(), pool.idle.len()), (1, 1));
    }

    #[test]
    fn a_pool_without_pipes_refuses_each() {
        let mut pool = PipePool::new(0);
        assert!(pool.take().is_none() && pool.take().is_none());
        assert_eq!(pool.refusals(), 2);
    }

    #[test]
    fn shrinking_closes_idle_pipes() {
        let mut pool = PipePool::new(2);
        let (kept, other) = (pool.take().unwrap(), pool.take().unwrap());
        pool.release(other, 0);
        pool.shrink();
        assert_eq!((pool.idle.len(), pool.open), (0, 1));
        pool.release(kept, 0);
        assert_eq!((pool.idle.len(), pool.open), (1, 1));
    }
}
