//! The backend of a thread over io_uring(7): its listener and its ring.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use io_uring::opcode;
use io_uring::types::Fd;

use super::io::{Progress, UringIo};
use super::operation::{ACCEPT, Operation};
use super::provided_buffers::{Filled, ProvidedBuffers};
use super::resources::{Accepting, Uring};
use super::ring::{Completion, Ring, RingWithMemory};
use super::scheduler::Scheduler;
use super::waiting::WaitingConnections;
use crate::engine::UringSettings;
use crate::proxy::backend::{Accepted, Backend, Event};
use crate::proxy::buffers::BufferPool;
use crate::proxy::listeners::Listener;
use crate::proxy::pipes::PipePool;
use crate::proxy::slab::Key;
use crate::sys::clock::monotonic_ns;
use crate::sys::endpoint::Peer;
use crate::sys::eventfd::EventFd;
use crate::sys::tcp;
use crate::sys::unix;

/// Operations that one call submits.
const SUBMISSIONS: u32 = 1_024;

/// Completions for which the kernel has room.
const COMPLETIONS: u32 = 16_384;

/// Most completions of one pass of the loop.
const EVENTS: usize = 1_024;

impl Uring {
    fn event(&mut self, completion: Completion) -> Option<Event<Self>> {
        if completion.user_data == ACCEPT {
            if !completion.more() {
                self.accepting = Accepting::Idle;
            }
            return Some(Event::Accepted(self.accepted(completion)));
        }
        let (key, operation) = Operation::from_user_data(completion.user_data)?;
        let progress = Progress::Completed(operation, completion);
        Some(Event::Progress(key, progress))
    }

    fn accepted(&self, completion: Completion) -> io::Result<Accepted<TcpStream>> {
        if let Some(errno) = completion.errno() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // SAFETY: a new descriptor (accept(2)) that has no other owner.
        let client = unsafe { OwnedFd::from_raw_fd(completion.result) };
        Ok(self.with_peer(client.into()))
    }

    /// Multishot accepting provides no memory for the address of each client.
    fn with_peer(&self, stream: TcpStream) -> Accepted<TcpStream> {
        let peer = match self.listens_on_path {
            true => Some(Peer::Unix),
            false => tcp::peer(&stream)
                .ok()
                .map(|peer| Peer::Ip(tcp::canonical(peer))),
        };
        Accepted { stream, peer }
    }

    /// Accepts a client that waits, without waiting for one.
    fn accept_now(&self) -> Option<io::Result<Accepted<TcpStream>>> {
        let listener = self.listener.as_ref()?;
        let accepted = match self.listens_on_path {
            true => unix::accept(listener),
            false => listener.accept().map(|(stream, _)| stream),
        };
        match accepted {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            accepted => Some(accepted.map(|stream| self.with_peer(stream))),
        }
    }
}

impl Backend for Uring {
    type Io = UringIo;
    type Stream = TcpStream;
    type Progress = Progress;
    type Chunk = Filled;

    const READS_AT_ONCE: bool = false;

    fn new(listener: Listener, wake: &EventFd, pipes: usize) -> io::Result<Self> {
        let Listener { socket, local } = listener;
        // Multishot accepting would end when no client waits.
        socket.set_nonblocking(false)?;
        // The first slot is for a socket. It must not be the listener, which the ring would keep open.
        let files = [-1, wake.as_fd().as_raw_fd()];
        let settings = UringSettings::default();
        let ring = Ring::new_disabled(&settings, SUBMISSIONS, COMPLETIONS, &files)?;
        let buffers = ProvidedBuffers::new(&ring)?;
        Ok(Self {
            ring: RingWithMemory::new(ring, buffers),
            listener: Some(socket),
            listens_on_path: local.ip().is_none(),
            accepting: Accepting::Idle,
            scheduler: Scheduler::default(),
            waiting: WaitingConnections::default(),
            without_buffer: VecDeque::new(),
            pipes: PipePool::new(pipes),
            buffer_pool: BufferPool::default(),
            failure: None,
        })
    }

    fn start(&mut self) -> io::Result<()> {
        self.ring.ring.enable()
    }

    fn wait(&mut self, deadline: u64, events: &mut Vec<Event<Self>>) -> io::Result<()> {
        self.ring.ring.arm_wake()?;
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.ring.memory.on_pass();
        // A bulk transfer waits for its turn no longer than the operations of this pass take.
        let deadline = match self.scheduler.has_waiting() {
            true => 0,
            false => deadline,
        };
        let deadline = self.waiting.before_sleep(deadline, monotonic_ns);
        self.ring.ring.wait(deadline)?;
        for _ in 0..EVENTS {
            let Some(completion) = self.ring.ring.next() else {
                break;
            };
            let event = self.event(completion);
            events.extend(event);
        }
        if self.ring.ring.was_woken() {
            events.push(Event::Woken);
        }
        while let Some(key) = self.waiting.next_slow() {
            events.push(Event::Progress(key, Progress::IsSlow));
        }
        Ok(())
    }

    /// By a multishot operation, unless it could use up all file descriptors: then by one operation a client, as each needs
    /// another descriptor for its server.
    fn accept(&mut self, multishot: bool) -> Option<io::Result<Accepted<TcpStream>>> {
        match self.accepting {
            Accepting::InFlight => return None,
            Accepting::BacklogOnly => return self.accept_now(),
            Accepting::Idle => {}
        }
        let listener = Fd(self.listener.as_ref()?.as_raw_fd());
        let accept = match multishot {
            true => opcode::AcceptMulti::new(listener)
                .flags(libc::SOCK_CLOEXEC)
                .build(),
            false => opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build(),
        };
        self.accepting = Accepting::InFlight;
        // SAFETY: it points to nothing.
        unsafe { self.submit(&accept.user_data(ACCEPT)) };
        None
    }

    fn cancel_accept(&mut self) {
        if self.is_accepting() {
            self.cancel_one(ACCEPT);
        }
    }

    fn is_accepting(&self) -> bool {
        self.accepting == Accepting::InFlight
    }

    fn accept_backlog_only(&mut self) -> io::Result<()> {
        self.accepting = Accepting::BacklogOnly;
        match &self.listener {
            Some(listener) => listener.set_nonblocking(true),
            None => Ok(()),
        }
    }

    fn close_listener(&mut self) {
        self.listener = None;
    }

    /// No connection can continue without an event.
    fn schedule(&mut self, _key: Key) {}

    fn next_turn(&mut self) -> Option<Key> {
        self.without_buffer
            .pop_front()
            .or_else(|| self.scheduler.next_turn())
    }

    fn end_turn(&mut self, _can_continue: bool) {}

    fn bytes(&self, chunk: &Filled) -> &[u8] {
        self.ring.memory.bytes(chunk)
    }

    fn release(&mut self, chunk: Filled) {
        self.ring.memory.release(chunk);
    }

    fn pipes(&mut self) -> &mut PipePool {
        &mut self.pipes
    }

    fn close(&mut self) -> bool {
        self.ring.ring.close()
    }
}
