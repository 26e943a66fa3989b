//! The I/O interface of the proxy: a worker thread runs its connections over one [`Backend`].
//!
//! The interface is shaped by completions. A call either completes at once or starts an operation whose completion arrives
//! as an [`Event`]. `uring` starts operations. `epoll` attempts each operation when its socket is ready, so its operations
//! complete at once.
//!
//! A backend owns the sockets, buffers and pipes, and decides the order of turns. [`super::connection`] decides what a
//! connection does next; [`super::worker`] decides which clients are accepted.

pub(super) mod epoll;
pub(super) mod uring;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::listeners::Listener;
use super::pipes::PipePool;
use super::relay::{Direction, Forwarding, Relay};
use super::slab::Key;
use crate::sys::endpoint::Peer;
use crate::sys::eventfd::EventFd;
use crate::sys::tcp::{self, Unread};

/// The I/O of one worker thread.
pub(super) trait Backend: Sized {
    /// The I/O of one connection.
    type Io: ConnectionIo<Self>;
    /// An accepted socket.
    type Stream: AsFd;
    /// Progress of one connection, for [`ConnectionIo::on_event`].
    type Progress;
    /// A buffer with received bytes.
    type Chunk;

    /// Whether a read from a new client completes at once, so that data of a client that is forwarded without a request
    /// can leave together with the TCP handshake of its server.
    const READS_AT_ONCE: bool;

    /// The backend of a thread that accepts from `listener` and that `wake` wakes, with at most `pipes` pipes.
    ///
    /// # Errors
    /// As epoll_create1(2) or io_uring_setup(2).
    fn new(listener: Listener, wake: &EventFd, pipes: usize) -> io::Result<Self>;

    /// Called once, by the thread that uses the backend from then on.
    ///
    /// # Errors
    /// As io_uring_register(2).
    fn start(&mut self) -> io::Result<()>;

    /// Submits what was started and sleeps until there are events, or until `deadline` in ns. Adds the events.
    ///
    /// # Errors
    /// As epoll_wait(2) or io_uring_enter(2).
    fn wait(&mut self, deadline: u64, events: &mut Vec<Event<Self>>) -> io::Result<()>;

    /// Accepts a client, or starts to: then clients arrive by [`Event::Accepted`], all that connect if `multishot`,
    /// otherwise one.
    fn accept(&mut self, multishot: bool) -> Option<io::Result<Accepted<Self::Stream>>>;

    /// Stops accepting by events. Clients that were accepted before this takes effect still arrive.
    fn cancel_accept(&mut self);

    /// Whether clients may still arrive by events.
    fn is_accepting(&self) -> bool;

    /// From now on [`Self::accept`] completes at once, without waiting for clients. Not to be called while
    /// [`Self::is_accepting`].
    ///
    /// # Errors
    /// As fcntl(2).
    fn accept_backlog_only(&mut self) -> io::Result<()>;

    /// Closes the listener.
    fn close_listener(&mut self);

    /// Adds a connection that can continue without an event to those that get a turn.
    fn schedule(&mut self, key: Key);

    /// The next connection to get a turn, or `None` when it is time to wait for events.
    fn next_turn(&mut self) -> Option<Key>;

    /// The turn that [`Self::next_turn`] gave is over. If the connection `can_continue`, it gets another turn.
    fn end_turn(&mut self, can_continue: bool);

    /// The bytes in a buffer.
    fn bytes(&self, chunk: &Self::Chunk) -> &[u8];

    /// Returns a buffer to the backend.
    fn release(&mut self, chunk: Self::Chunk);

    /// The pipes of the thread.
    fn pipes(&mut self) -> &mut PipePool;

    /// Cancels all operations. If this fails, memory of connections must not be freed, as the kernel may still use it.
    fn close(&mut self) -> bool;
}

/// The I/O of one connection.
pub(super) trait ConnectionIo<B: Backend<Io = Self>>: Sized {
    /// The I/O of an accepted client.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    fn new(client: B::Stream, context: &mut IoContext<'_, B>) -> io::Result<Self>;

    /// The client's socket.
    fn client(&self) -> BorrowedFd<'_>;

    /// The server's socket, once it is connected and until it is closed.
    fn server(&self) -> Option<BorrowedFd<'_>>;

    /// Records progress. While the connection is `relaying`, received bytes belong to the relay.
    fn on_event(
        &mut self,
        progress: B::Progress,
        relaying: bool,
        context: &mut IoContext<'_, B>,
    ) -> Next<B::Chunk>;

    /// Called at the start of a turn that [`Backend::next_turn`] gave.
    fn resume(&mut self);

    /// Receives up to `most` bytes of the client, outside of the relay, or starts to.
    fn receive(
        &mut self,
        most: usize,
        context: &mut IoContext<'_, B>,
    ) -> Option<Received<B::Chunk>>;

    /// Queues bytes of the proxy itself in front of what is relayed, as counted by [`super::relay::Flow::queue`].
    fn queue(&mut self, direction: Direction, bytes: &[u8]);

    /// Performs the steps of one direction of the relay, if they have their sockets. Whether it can continue at once after
    /// other connections had a turn.
    fn pump(&mut self, direction: Direction, context: &mut IoContext<'_, B>) -> bool;

    /// Starts to connect to a server. `sends_first`: the first bytes for the server are already queued.
    ///
    /// # Errors
    /// As socket(2), setsockopt(2) and connect(2), and epoll_ctl(2).
    fn connect(
        &mut self,
        address: SocketAddr,
        sends_first: bool,
        context: &mut IoContext<'_, B>,
    ) -> io::Result<()>;

    /// Whether a connection attempt to this address is in progress.
    fn is_connecting_to(&self, address: SocketAddr) -> bool;

    /// Gives up the connection attempt to this address.
    fn give_up(&mut self, address: SocketAddr, context: &mut IoContext<'_, B>);

    /// The next completed connection attempt: the address of the server, and the local address if it succeeded. The socket
    /// that is connected becomes the server.
    fn next_connected(&mut self) -> Option<(SocketAddr, io::Result<SocketAddr>)>;

    /// Gives up the other connection attempts and prepares both sockets for the relay.
    fn start_relaying(&mut self, forwarding: Forwarding, context: &mut IoContext<'_, B>);

    /// Gives up all connection attempts and closes the server.
    fn close_server(&mut self, context: &mut IoContext<'_, B>);

    /// Whether the client hung up while its server is not connected: the state of its socket, if that may have changed.
    fn hang_up(&mut self, context: &mut IoContext<'_, B>) -> Option<Unread>;

    /// From now on a reset by the client, which is no longer received from, makes the relay fail.
    fn watch_reset(&mut self, context: &mut IoContext<'_, B>);

    /// Cancels all operations.
    fn cancel(&mut self, context: &mut IoContext<'_, B>);

    /// Whether an operation is still in flight, so that this must not be closed yet.
    fn is_busy(&self) -> bool;

    /// Closes the sockets, with a reset if `reset`. The pipes to the server and to the client contain `unsent` bytes.
    fn close(self, reset: bool, unsent: [usize; 2], backend: &mut B);
}

/// The connection for which a method of [`ConnectionIo`] is called, and the backend of its thread.
pub(super) struct IoContext<'a, B> {
    pub(super) key: Key,
    pub(super) relay: &'a mut Relay,
    pub(super) backend: &'a mut B,
}

/// An event of a worker thread.
pub(super) enum Event<B: Backend> {
    /// A client connected, or accept(2) failed.
    Accepted(io::Result<Accepted<B::Stream>>),
    /// Another thread woke this one.
    Woken,
    /// Progress of one connection.
    Progress(Key, B::Progress),
}

/// A client that was accepted.
pub(super) struct Accepted<S> {
    pub(super) stream: S,
    /// `None` if the client disconnected before its address was read.
    pub(super) peer: Option<Peer>,
}

/// The outcome of a receive.
pub(super) enum Received<C> {
    /// More than zero bytes, in a buffer that goes back by [`Backend::release`].
    Bytes(C),
    /// The client has ended its side of the connection.
    End,
    /// The connection is broken.
    Failed,
}

/// What follows an event of a connection.
pub(super) enum Next<C> {
    /// The connection gets a turn after all events are recorded.
    Schedule,
    /// The connection waits for other events.
    Wait,
    /// The connection continues now.
    Continue,
    /// The connection continues with what was received outside of the relay.
    Received(Received<C>),
}

/// Closes sockets, with a reset if `reset`.
fn close_all<S: AsFd>(sockets: impl IntoIterator<Item = S>, reset: bool) {
    for socket in sockets {
        if reset {
            // The socket is closed all the same.
            let _ = tcp::reset_on_close(&socket);
        }
    }
}
