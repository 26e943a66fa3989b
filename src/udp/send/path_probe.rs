//! Path probe: whether full-size datagrams reach the other end, before the run.
//!
//! A router that drops a datagram as too long for the next link reports it by ICMP (RFC 1191, RFC 8201), and the kernel then
//! fragments or refuses long datagrams. If that ICMP error is filtered, long datagrams are lost while short ones arrive: a black
//! hole (RFC 2923). The sender therefore sends pings of both sizes and compares the pongs.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::udp::relay_header::RelayHeader;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time between two pairs of pings at first; later half of a round trip.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest time between two pairs.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Short pongs without a long one after which the path is a black hole: with 30 % loss each way, one path in a thousand is
/// misjudged.
const ENOUGH: u32 = 10;

/// Long pings refused by the kernel after which the path MTU is too small. The first may be refused for a pending error.
const REFUSALS: u32 = 3;

/// How long to probe without any pong, on top of some round trips.
const LIMIT: Duration = Duration::from_secs(3);

/// Pings of each size in the search for the longest that arrives.
const TRIES: u32 = 4;

/// Rounds of [`TRIES`] without a pong after which fragments count as lost.
const ROUNDS: u32 = 3;

/// A payload that every IPv4 path carries unfragmented (RFC 791: 576 bytes, minus headers with options).
const MIN_BYTES: usize = 508;

/// The outcome of a path probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// Full-size datagrams arrive.
    Fits,
    /// The kernel refuses full-size datagrams: they exceed the path MTU.
    TooLong,
    /// Full-size datagrams are lost, while short ones arrive.
    BlackHole,
    /// No ping was answered.
    Unknown,
}

/// A connected socket whose other end replies to pings.
pub struct PathProbe<'a> {
    /// A connected socket that no other thread uses meanwhile.
    pub socket: &'a UdpSocket,
    /// The stream's token.
    pub token: u64,
    /// The header in front of each datagram.
    pub relay: &'a RelayHeader,
    /// Round trip of the path.
    pub round_trip: Duration,
    /// Ends the probe early.
    pub stop: &'a AtomicBool,
    /// Whether the other end answers requests of round trips: pings of their size, and the short probes that open the flow. Older servers
    /// answer no other pings.
    pub is_of_requests: bool,
}

/// The first number of a ping among requests, which have lower ones.
pub const AMONG_REQUESTS: u64 = 1 << 40;

impl PathProbe<'_> {
    /// Probes with datagrams of `datagram` bytes.
    ///
    /// # Errors
    /// As setsockopt(2) and recv(2): errors that make the socket useless.
    pub fn explore(&self, datagram: usize) -> io::Result<ProbeOutcome> {
        self.explore_within(LIMIT + 4 * self.round_trip, datagram)
    }

    /// Like [`Self::explore`], with this time without any pong.
    fn explore_within(&self, limit: Duration, datagram: usize) -> io::Result<ProbeOutcome> {
        self.blocking(|| self.compare(limit, datagram.max(self.relay.len() + HEADER)))
    }

    /// The longest datagram that arrives, in bytes and below `datagram`, by bisection.
    ///
    /// # Errors
    /// As [`Self::explore`].
    pub fn longest(&self, datagram: usize) -> io::Result<usize> {
        self.blocking(|| {
            let (mut arrives, mut vanishes) = (MIN_BYTES.min(datagram), datagram);
            // Numbers that no earlier ping had.
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

    /// Whether datagrams of `datagram` bytes arrive with the socket's present options. `true` if the probe is stopped.
    ///
    /// # Errors
    /// As [`Self::explore`].
    pub fn arrives(&self, datagram: usize) -> io::Result<bool> {
        self.blocking(|| {
            // Numbers that no earlier ping had.
            let mut number = 2 << 32;
            for _ in 0..ROUNDS {
                if self.is_answered(datagram, &mut number)? || self.stop.load(Ordering::Relaxed) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Makes the socket blocking while `ask` runs.
    fn blocking<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.socket.set_nonblocking(false)?;
        let found = ask();
        self.socket.set_read_timeout(None)?;
        self.socket.set_nonblocking(true)?;
        found
    }

    fn compare(&self, limit: Duration, datagram: usize) -> io::Result<ProbeOutcome> {
        let mut deadline = Instant::now() + limit;
        let mut asked: Vec<Instant> = Vec::new();
        let mut tally = Tally::default();
        let mut pause = PAUSE;
        while Instant::now() < deadline && !self.stop.load(Ordering::Relaxed) {
            let number = asked.len() as u64;
            asked.push(Instant::now());
            if !self.ping(2 * number + 1, datagram) {
                tally.refused += 1;
            }
            // In most cases the first long ping is answered, and no short one is needed.
            if number > 0 {
                self.ping(2 * number, self.relay.len() + HEADER);
            }
            let until = Instant::now() + pause;
            while let Some(number) = self.pong(until)? {
                if let Some(outcome) = tally.on_pong(number) {
                    return Ok(outcome);
                }
                // A busy server answers, but late.
                if tally.short < ENOUGH {
                    deadline = Instant::now() + limit;
                }
                let pair = usize::try_from(number / 2).unwrap_or(usize::MAX);
                if let Some(asked) = asked.get(pair) {
                    pause = (asked.elapsed() / 2).clamp(PAUSE, MAX_PAUSE);
                }
            }
            if tally.refused >= REFUSALS {
                return Ok(ProbeOutcome::TooLong);
            }
        }
        Ok(ProbeOutcome::Unknown)
    }

    /// Whether a datagram of this size arrives.
    fn is_answered(&self, length: usize, number: &mut u64) -> io::Result<bool> {
        let first = *number;
        for _ in 0..TRIES {
            *number += 1;
            self.ping(*number, length);
            let until = Instant::now() + PAUSE.max(2 * self.round_trip);
            while let Some(pong) = self.pong(until)? {
                // A late pong of an earlier try counts too.
                if pong > first {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Sends a ping of `length` bytes; `false` if the kernel refuses it as too long.
    fn ping(&self, number: u64, length: usize) -> bool {
        let kind = match self.is_of_requests && length == self.relay.len() + HEADER {
            true => Kind::Probe,
            false => Kind::Ping,
        };
        let header = Header::bare(kind, self.token, self.first_number() + number).encode();
        let mut ping = self.relay.wrap(&header).to_vec();
        ping.resize(length, 0);
        match self.socket.send(&ping) {
            Err(error) => error.raw_os_error() != Some(libc::EMSGSIZE),
            Ok(_) => true,
        }
    }

    fn first_number(&self) -> u64 {
        match self.is_of_requests {
            true => AMONG_REQUESTS,
            false => 0,
        }
    }

    /// The number of the next pong that arrives before `until`.
    fn pong(&self, until: Instant) -> io::Result<Option<u64>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A timeout of 0 would mean no timeout.
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_micros(50))))?;
            let mut bytes = [0; 2 * HEADER];
            match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let datagram = bytes.get(..length).unwrap_or_default();
                    let header = Header::decode(self.relay.payload(datagram));
                    if let Ok(header) = header
                        && (header.kind == Kind::Pong
                            || (self.is_of_requests && header.kind == Kind::Credit))
                        && header.token == self.token
                        && let Some(number) = header.sequence.checked_sub(self.first_number())
                    {
                        return Ok(Some(number));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Err(error),
                // An ICMP error about an earlier ping.
                Err(_) => {}
            }
        }
    }
}

/// The counts of the probe so far.
#[derive(Debug, Default)]
struct Tally {
    /// Short pongs.
    short: u32,
    /// Long pings that the kernel refused to send.
    refused: u32,
}

impl Tally {
    /// Counts the pong with this number; odd numbers are long pings. Returns the outcome once it is known.
    fn on_pong(&mut self, number: u64) -> Option<ProbeOutcome> {
        if number % 2 == 1 {
            return Some(ProbeOutcome::Fits);
        }
        self.short += 1;
        (self.short >= ENOUGH && self.refused == 0).then_some(ProbeOutcome::BlackHole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Runs `with` a probe whose peer replies to pings of at most `longest` bytes.
    fn probed<T>(longest: usize, stop: bool, with: impl FnOnce(&PathProbe<'_>) -> T) -> T {
        probed_late(Duration::ZERO, longest, stop, with)
    }

    /// Like [`probed`], with a time before each reply.
    fn probed_late<T>(
        late: Duration,
        longest: usize,
        stop: bool,
        with: impl FnOnce(&PathProbe<'_>) -> T,
    ) -> T {
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
                    thread::sleep(late);
                    let pong = Header::bare(Kind::Pong, header.token, header.sequence).encode();
                    far.send_to(&pong, from).unwrap();
                }
            }
        });
        let stop = AtomicBool::new(stop);
        let outcome = with(&PathProbe {
            socket: &near,
            token: 7,
            relay: &RelayHeader::default(),
            round_trip: Duration::ZERO,
            stop: &stop,
            is_of_requests: false,
        });
        near.send(&[0]).unwrap();
        answers.join().unwrap();
        outcome
    }

    #[test]
    fn long_pings_arrive_or_reveal_a_black_hole() {
        for (longest, expected) in [
            (2_000, ProbeOutcome::Fits),
            (1_000, ProbeOutcome::BlackHole),
        ] {
            let outcome = probed(longest, false, |probe| probe.explore(1_432).unwrap());
            assert_eq!(outcome, expected);
        }
    }

    #[test]
    fn late_replies_prolong_the_probe() {
        let (late, limit) = (Duration::from_millis(30), Duration::from_millis(200));
        let outcome = probed_late(late, 1_000, false, |probe| {
            probe.explore_within(limit, 1_432).unwrap()
        });
        assert_eq!(outcome, ProbeOutcome::BlackHole);
    }

    #[test]
    fn the_longest_that_arrives_is_found_to_the_byte() {
        assert_eq!(
            probed(1_272, false, |probe| probe.longest(1_432).unwrap()),
            1_272
        );
    }

    #[test]
    fn a_size_arrives_or_does_not() {
        for (longest, expected) in [(1_432, true), (1_431, false)] {
            let outcome = probed(longest, false, |probe| probe.arrives(1_432).unwrap());
            assert_eq!(outcome, expected);
        }
    }

    #[test]
    fn a_stopped_probe_has_an_unknown_outcome() {
        let outcome = probed(0, true, |probe| probe.explore(100).unwrap());
        assert_eq!(outcome, ProbeOutcome::Unknown);
    }
}
