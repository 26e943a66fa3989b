//! Whether datagrams of full size reach the other end, found out before the run.
//!
//! A router that drops what is too long for the next link is to report it (RFC 1191, RFC 8201), and the kernel then fragments or
//! refuses. Where that report is filtered, long datagrams vanish while short ones arrive: a black hole (RFC 2923). So the sender asks
//! questions of both sizes, and compares what is answered.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time between two pairs of questions at first; later half of a round trip.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest time between two pairs.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Short questions that are answered before long ones are taken for lost: with 30 % loss each way, one path in a thousand is
/// misjudged.
const ENOUGH: u32 = 10;

/// Long questions that the kernel refuses before it is believed: the first may be refused for an error that is pending.
const REFUSALS: u32 = 3;

/// How long to ask where nothing at all is answered, on top of some round trips.
const LIMIT: Duration = Duration::from_secs(3);

/// Questions of each size on the way to the longest that arrives.
const TRIES: u32 = 4;

/// Rounds of [`TRIES`] before fragments are taken for lost.
const ROUNDS: u32 = 3;

/// A payload that every IPv4 path carries whole (RFC 791: 576 bytes, less headers with options).
const SHORTEST: usize = 508;

/// What became of full-size datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// They arrive.
    Fits,
    /// The kernel refuses them: they exceed the path MTU.
    TooLong,
    /// They vanish, while short ones arrive.
    BlackHole,
    /// Nothing was answered, so nothing is known.
    Unknown,
}

/// A connected socket whose other end answers questions.
pub struct Probe<'a> {
    /// Connected, and not used by another thread meanwhile.
    pub socket: &'a UdpSocket,
    /// The stream's.
    pub token: u64,
    /// How long an answer took before.
    pub round_trip: Duration,
    /// Ends it early.
    pub stop: &'a AtomicBool,
}

impl Probe<'_> {
    /// Finds out what becomes of datagrams of `datagram` bytes.
    ///
    /// # Errors
    /// As setsockopt(2) and recv(2): only what makes the socket useless.
    pub fn explore(&self, datagram: usize) -> io::Result<Reach> {
        self.blocking(|| self.compare(datagram.max(HEADER)))
    }

    /// The longest datagram that arrives, in bytes and below `datagram`, found by halving.
    ///
    /// # Errors
    /// As [`Self::explore`].
    pub fn longest(&self, datagram: usize) -> io::Result<usize> {
        self.blocking(|| {
            let (mut arrives, mut vanishes) = (SHORTEST.min(datagram), datagram);
            // Numbers that no question before had.
            let mut number = 1 << 32;
            while vanishes - arrives > 1 && !self.stop.load(Ordering::Relaxed) {
                let middle = arrives + (vanishes - arrives) / 2;
                if self.is_answered(middle, &mut number)? {
                    arrives = middle;
                } else {
                    vanishes = middle;
                }
            }
            Ok(arrives)
        })
    }

    /// Whether datagrams of `datagram` bytes arrive, as the socket is set now. One that is stopped says yes: nothing is known against it.
    ///
    /// # Errors
    /// As [`Self::explore`].
    pub fn arrives(&self, datagram: usize) -> io::Result<bool> {
        self.blocking(|| {
            // Numbers that no question before had.
            let mut number = 2 << 32;
            for _ in 0..ROUNDS {
                if self.is_answered(datagram, &mut number)? || self.stop.load(Ordering::Relaxed) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Lets reads wait while `ask` runs.
    fn blocking<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.socket.set_nonblocking(false)?;
        let found = ask();
        self.socket.set_read_timeout(None)?;
        self.socket.set_nonblocking(true)?;
        found
    }

    fn compare(&self, datagram: usize) -> io::Result<Reach> {
        let limit = LIMIT + 4 * self.round_trip;
        let began = Instant::now();
        let mut asked: Vec<Instant> = Vec::new();
        let mut judge = Judge::default();
        let mut pause = PAUSE;
        while began.elapsed() < limit && !self.stop.load(Ordering::Relaxed) {
            let number = asked.len() as u64;
            asked.push(Instant::now());
            if !self.ask(2 * number + 1, datagram) {
                judge.refused += 1;
            }
            // Most often the first long one is answered, and no short one is needed.
            if number > 0 {
                self.ask(2 * number, HEADER);
            }
            let until = Instant::now() + pause;
            while let Some(answer) = self.answer(until)? {
                if let Some(reach) = judge.answered(answer) {
                    return Ok(reach);
                }
                let pair = usize::try_from(answer / 2).unwrap_or(usize::MAX);
                if let Some(asked) = asked.get(pair) {
                    pause = (asked.elapsed() / 2).clamp(PAUSE, LONGEST_PAUSE);
                }
            }
            if judge.refused >= REFUSALS {
                return Ok(Reach::TooLong);
            }
        }
        Ok(Reach::Unknown)
    }

    /// Whether a datagram of this size arrives.
    fn is_answered(&self, length: usize, number: &mut u64) -> io::Result<bool> {
        let first = *number;
        for _ in 0..TRIES {
            *number += 1;
            self.ask(*number, length);
            let until = Instant::now() + PAUSE.max(2 * self.round_trip);
            while let Some(answer) = self.answer(until)? {
                // The answer to an earlier try is as good.
                if answer > first {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Sends a question of `length` bytes; `false` when the kernel refuses it as too long.
    fn ask(&self, number: u64, length: usize) -> bool {
        let mut question = vec![0; length];
        if let Some(front) = question.first_chunk_mut() {
            *front = Header::bare(Kind::Ping, self.token, number).encode();
        }
        match self.socket.send(&question) {
            Err(error) => error.raw_os_error() != Some(libc::EMSGSIZE),
            Ok(_) => true,
        }
    }

    /// The number of the next question that is answered before `until`.
    fn answer(&self, until: Instant) -> io::Result<Option<u64>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A timeout of 0 would be none.
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_micros(50))))?;
            let mut bytes = [0; 2 * HEADER];
            match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let header = Header::decode(bytes.get(..length).unwrap_or_default());
                    if let Ok(header) = header
                        && (header.kind, header.token) == (Kind::Pong, self.token)
                    {
                        return Ok(Some(header.sequence));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Err(error),
                // What became of an earlier question, as ICMP reports it.
                Err(_) => {}
            }
        }
    }
}

/// What the answers so far come to.
#[derive(Debug, Default)]
struct Judge {
    /// Short questions answered.
    short: u32,
    /// Long questions that the kernel refused to send.
    refused: u32,
}

impl Judge {
    /// Takes an answer in: that to question `number`, of which the odd ones are long.
    fn answered(&mut self, number: u64) -> Option<Reach> {
        if number % 2 == 1 {
            return Some(Reach::Fits);
        }
        self.short += 1;
        (self.short >= ENOUGH && self.refused == 0).then_some(Reach::BlackHole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Runs `with` a probe whose peer answers questions of at most `longest` bytes.
    fn probed<T>(longest: usize, stop: bool, with: impl FnOnce(&Probe<'_>) -> T) -> T {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.connect(far.local_addr().unwrap()).unwrap();
        let answers = thread::spawn(move || {
            let mut bytes = [0; 2_048];
            while let Ok((length, from)) = far.recv_from(&mut bytes) {
                if length == 1 {
                    return;
                }
                let header = Header::decode(&bytes[..length]).unwrap();
                if length <= longest {
                    let pong = Header::bare(Kind::Pong, header.token, header.sequence).encode();
                    far.send_to(&pong, from).unwrap();
                }
            }
        });
        let stop = AtomicBool::new(stop);
        let found = with(&Probe {
            socket: &near,
            token: 7,
            round_trip: Duration::ZERO,
            stop: &stop,
        });
        near.send(&[0]).unwrap();
        answers.join().unwrap();
        found
    }

    #[test]
    fn what_arrives_fits_and_what_alone_is_missing_has_vanished() {
        for (longest, expected) in [(2_000, Reach::Fits), (1_000, Reach::BlackHole)] {
            let found = probed(longest, false, |probe| probe.explore(1_432).unwrap());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_longest_that_arrives_is_found_to_the_byte() {
        assert_eq!(
            probed(1_272, false, |probe| probe.longest(1_432).unwrap()),
            1_272
        );
    }

    #[test]
    fn what_arrives_is_known_to_and_what_does_not_is_asked_for_again() {
        for (longest, expected) in [(1_432, true), (1_431, false)] {
            let found = probed(longest, false, |probe| probe.arrives(1_432).unwrap());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_stopped_probe_knows_nothing() {
        let found = probed(0, true, |probe| probe.explore(100).unwrap());
        assert_eq!(found, Reach::Unknown);
    }
}
