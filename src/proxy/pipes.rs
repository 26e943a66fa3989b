//! A thread's pipes. A flow has one only while bytes of its are in it, so few serve many connections.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::pipe::Pipe;

/// Room that is asked for, in bytes. A pipe is slots of a page, and one of 64 KiB is full after 16 pieces, however short; a
/// lot of 64 KiB comes in up to 17 pieces a segment. More would count against the user's share of pipe pages
/// (`pipe-user-pages-soft`, 64 MiB) for nothing.
const ROOM: usize = 256 << 10;

/// Less room than this, in bytes, is not worth a splice: what users over their share of pipe pages get (pipe(7)).
const LEAST: usize = 64 << 10;

/// Pipes for whoever has bytes to put in one.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Pipe>,
    /// Free and lent.
    alive: usize,
    most: usize,
}

impl Pool {
    /// Up to `most` pipes, each made when it is first wanted.
    pub(super) fn new(most: usize) -> Self {
        Self {
            free: Vec::new(),
            alive: 0,
            most,
        }
    }

    /// Takes up to `most` bytes from a stream socket, into a pipe that goes back with [`Self::give`].
    ///
    /// # Errors
    /// As [`Pipe::fill`].
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<Lot> {
        let Some(pipe) = self.take() else {
            return Ok(Lot::NoPipe);
        };
        match pipe.fill(from, most) {
            Ok(bytes) if bytes > 0 => Ok(Lot::Bytes(pipe, bytes)),
            nothing => {
                self.give(pipe, 0);
                nothing.map(|_| Lot::End)
            }
        }
    }

    /// An empty pipe; `None` when all are lent, or the kernel gives no more or none of a useful size.
    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.alive >= self.most {
            return None;
        }
        let pipe = Pipe::new(ROOM).ok()?;
        if pipe.size() < LEAST {
            return None;
        }
        self.alive += 1;
        Some(pipe)
    }

    /// Takes a pipe back; one that still `holds` bytes is closed, or the next flow would say what is not its own.
    pub(super) fn give(&mut self, pipe: Pipe, holds: usize) {
        if holds == 0 {
            self.free.push(pipe);
        } else {
            self.alive -= 1;
        }
    }

    /// Closes those not lent: two file descriptors each.
    pub(super) fn shrink(&mut self) {
        self.alive -= self.free.len();
        self.free.clear();
    }
}

/// What there was to take.
#[derive(Debug)]
pub(super) enum Lot {
    /// So many bytes, more than none, that are in this pipe.
    Bytes(Pipe, usize),
    /// The source has ended.
    End,
    /// None can be had.
    NoPipe,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_few_and_used_again() {
        let mut pool = Pool::new(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        pool.give(first, 0);
        pool.give(second, 0);
        assert_eq!(pool.free.len(), 2);
        pool.take().unwrap();
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_lent_again() {
        let mut pool = Pool::new(1);
        let pipe = pool.take().unwrap();
        pool.give(pipe, 1);
        assert_eq!((pool.free.len(), pool.alive), (0, 0));
        assert!(pool.take().is_some());
    }

    #[test]
    fn those_not_lent_can_be_let_go() {
        let mut pool = Pool::new(2);
        let (kept, other) = (pool.take().unwrap(), pool.take().unwrap());
        pool.give(other, 0);
        pool.shrink();
        assert_eq!((pool.free.len(), pool.alive), (0, 1));
        pool.give(kept, 0);
        assert_eq!((pool.free.len(), pool.alive), (1, 1));
    }
}
