//! The answering server: to each client it says `RESPONSE || ` and then all that the client says.
//!
//! One thread and one event loop. What a client says is taken only when all before went back to it, so one that does not
//! listen costs a buffer at most.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::proxy::slab::{Key, Slab};
use crate::sys::tcp;

/// What an answer begins with.
pub const PREFIX: &[u8] = b"RESPONSE || ";

// Tokens of no connection.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Bytes taken at once: a whole segment of loopback.
const READ: usize = 64 << 10;

/// Lots of a client before others have their turn.
const TURN: usize = 16;

/// How long until accepting is tried again after it failed, for want of file descriptors perhaps.
const PAUSE: Duration = Duration::from_millis(100);

/// An answering server that listens.
pub struct Origin {
    poll: Poll,
    listener: TcpListener,
    local: SocketAddr,
    waker: Arc<Waker>,
    clients: Slab<Client>,
    /// The prefix, and room for what is read behind it.
    buffer: Box<[u8]>,
}

struct Client {
    stream: TcpStream,
    from: SocketAddr,
    /// Not taken by the client yet.
    rest: Vec<u8>,
    answered: bool,
}

enum Fate {
    Waits,
    More,
    Over,
}

impl Origin {
    /// Listens on `address`, where port 0 lets the kernel choose.
    ///
    /// # Errors
    /// As bind(2) and listen(2): in use, not of this host, not permitted.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut listener = TcpListener::from_std(tcp::listen(address, false)?);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut buffer = PREFIX.to_vec();
        buffer.resize(PREFIX.len() + READ, 0);
        Ok(Self {
            local: listener.local_addr()?,
            listener,
            waker: Arc::new(Waker::new(poll.registry(), WAKER)?),
            poll,
            clients: Slab::new(),
            buffer: buffer.into(),
        })
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What ends it, from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Answers until it is woken. `heard` is given what comes as it comes, and from whom: in such pieces as the network
    /// makes of it.
    ///
    /// # Errors
    /// As epoll_wait(2). Whatever a client does is no error.
    pub fn run(mut self, mut heard: impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let (mut ready, mut turns) = (Vec::new(), Vec::new());
        let mut paused = false;
        loop {
            let wait = match (ready.is_empty(), paused) {
                (false, _) => Some(Duration::ZERO),
                (true, true) => Some(PAUSE),
                (true, false) => None,
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let mut accept = paused;
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => accept = true,
                    token => ready.push(Key::from_number(token.0)),
                }
            }
            std::mem::swap(&mut ready, &mut turns);
            for key in turns.drain(..) {
                let Some(client) = self.clients.get_mut(key) else {
                    continue;
                };
                match client.serve(&mut self.buffer, &mut heard) {
                    Fate::Waits => {}
                    Fate::More => ready.push(key),
                    Fate::Over => drop(self.clients.remove(key)),
                }
            }
            if accept {
                paused = !self.accept();
            }
        }
    }

    /// Takes all who wait; false where it has to be tried again.
    fn accept(&mut self) -> bool {
        loop {
            match self.listener.accept() {
                // One that cannot be registered is dropped.
                Ok((stream, from)) => drop(self.admit(stream, from)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return true,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return false,
                },
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        let registry = self.poll.registry();
        self.clients.insert(|key| {
            let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
            registry.register(&mut stream, Token(key.number()), interest)?;
            Ok::<_, io::Error>(Client {
                stream,
                from,
                rest: Vec::new(),
                answered: false,
            })
        })?;
        Ok(())
    }
}

impl Client {
    fn serve(&mut self, buffer: &mut [u8], heard: &mut impl FnMut(SocketAddr, &[u8])) -> Fate {
        for _ in 0..TURN {
            match self.turn(buffer, heard) {
                Ok(true) => {}
                Ok(false) => {
                    // All it said went back to it.
                    let _ = self.stream.shutdown(Shutdown::Write);
                    return Fate::Over;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Fate::Waits,
                    ErrorKind::Interrupted => {}
                    _ => return Fate::Over,
                },
            }
        }
        Fate::More
    }

    /// Gives back what is left, or else takes more and gives it back; false at the client's end.
    fn turn(
        &mut self,
        buffer: &mut [u8],
        heard: &mut impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<bool> {
        if !self.rest.is_empty() {
            let written = self.stream.write(&self.rest)?;
            self.rest.drain(..written);
            return Ok(true);
        }
        let (_, room) = buffer.split_at_mut(PREFIX.len());
        let bytes = self.stream.read(room)?;
        let said = room.get(..bytes).unwrap_or_default();
        if said.is_empty() {
            return Ok(false);
        }
        heard(self.from, said);
        let from = if self.answered { PREFIX.len() } else { 0 };
        self.answered = true;
        let answer = buffer.get(from..PREFIX.len() + bytes).unwrap_or_default();
        let written = match self.stream.write(answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.rest
            .extend_from_slice(answer.get(written..).unwrap_or_default());
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        Ok(true)
    }
}
