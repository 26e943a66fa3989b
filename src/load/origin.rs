//! The answering server: to each client it says `RESPONSE || ` and then all that the client says, be it nothing.
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

/// Clients accepted before others have their turn.
const ACCEPTS: usize = 64;

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
    /// The beginning of a character whose rest has not come yet.
    begun: Vec<u8>,
}

/// What has come of accepting.
#[derive(Clone, Copy, PartialEq)]
enum Waiting {
    Nobody,
    Perhaps,
    /// Somebody who cannot be taken now.
    Somebody,
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
    /// makes of it, but no character of UTF-8 is cut in two.
    ///
    /// # Errors
    /// As epoll_wait(2). Whatever a client does is no error.
    pub fn run(mut self, mut heard: impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let (mut ready, mut turns) = (Vec::new(), Vec::new());
        let mut waiting = Waiting::Nobody;
        loop {
            let wait = match waiting {
                _ if !ready.is_empty() => Some(Duration::ZERO),
                Waiting::Nobody => None,
                Waiting::Perhaps => Some(Duration::ZERO),
                Waiting::Somebody => Some(PAUSE),
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => waiting = Waiting::Perhaps,
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
            if waiting != Waiting::Nobody {
                waiting = self.accept();
            }
        }
    }

    fn accept(&mut self) -> Waiting {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                // One that cannot be registered is dropped.
                Ok((stream, from)) => drop(self.admit(stream, from)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Waiting::Nobody,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Waiting::Somebody,
                },
            }
        }
        Waiting::Perhaps
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
                begun: Vec::new(),
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
            if self.rest.is_empty() {
                self.rest = Vec::new();
            }
            return Ok(true);
        }
        let (_, room) = buffer.split_at_mut(PREFIX.len());
        let bytes = self.stream.read(room)?;
        let said = room.get(..bytes).unwrap_or_default();
        self.tell(said, heard);
        if said.is_empty() && self.answered {
            return Ok(false);
        }
        let from = if self.answered { PREFIX.len() } else { 0 };
        self.answered = true;
        let answer = buffer.get(from..PREFIX.len() + bytes).unwrap_or_default();
        let written = match self.stream.write(answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.rest
            .extend_from_slice(answer.get(written..).unwrap_or_default());
        Ok(true)
    }

    /// Tells what was said, up to its last whole character; nothing is the end, and the rest is told.
    fn tell(&mut self, said: &[u8], heard: &mut impl FnMut(SocketAddr, &[u8])) {
        if self.begun.is_empty() {
            let (whole, begun) = said.split_at(said.len() - cut_off(said));
            if !whole.is_empty() {
                heard(self.from, whole);
            }
            self.begun.extend_from_slice(begun);
            return;
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(said);
        if said.is_empty() {
            heard(self.from, &all);
        } else {
            self.tell(&all, heard);
        }
    }
}

/// How many bytes at the end begin a character of UTF-8 that is not all there (RFC 3629, section 3).
fn cut_off(bytes: &[u8]) -> usize {
    // A character has four bytes at most, all but the first of the form 10xxxxxx.
    let mut last = bytes.iter().rev().take(3);
    let Some(follow) = last.position(|byte| byte & 0xC0 != 0x80) else {
        return 0;
    };
    let due = match bytes.get(bytes.len() - 1 - follow) {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => 0,
    };
    if follow + 1 < due { follow + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_character_that_may_yet_be_whole_is_held_back() {
        for (bytes, held) in [
            (&b""[..], 0),
            (b"a", 0),
            ("ß".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"a\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            (b"\x80\x80\x80\x80", 0),
            (b"\xff", 0),
            (b"\xc3\xc3", 1),
            (b"\xe2\x82a", 0),
        ] {
            assert_eq!(cut_off(bytes), held, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_cut_anywhere_is_told_in_whole_characters(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let at = at.index(text.len() + 1);
            let first = &text.as_bytes()[..at];
            let whole = &first[..at - cut_off(first)];
            prop_assert!(std::str::from_utf8(whole).is_ok());
            prop_assert!(cut_off(first) < 4);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            prop_assert!(cut_off(&bytes) <= bytes.len());
        }
    }
}
