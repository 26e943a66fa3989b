//! The client's side of the clock exchanges: a UDP flow of its own on the path of the data, before, during and after the run.
//!
//! Several exchanges are under way at once and each is matched by its number, so a round trip may take as long as it likes.
//! The offset in use is what the latest exchanges say; what it was when is kept, and judged at the end by all of them.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::sys::clock::monotonic_ns;
use crate::udp::clock_offset::{Exchange, Model};
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time between two exchanges in a burst, before and after the run.
const BURST_PAUSE: Duration = Duration::from_millis(2);

/// Time between two exchanges during the run.
const PAUSE: Duration = Duration::from_millis(100);

/// Exchanges that decide on the offset in use: those of the last quarter of a minute, and the burst before.
const RECENT: usize = 160;

/// Exchanges kept at most, 32 bytes each. Beyond, of every two the one with the longer round trip is dropped.
const MOST: usize = 1 << 16;

/// Questions without an answer that are remembered.
const MOST_OPEN: usize = 4_096;

/// What all exchanges of a run say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// The offset in use when the run began, in ns.
    pub(super) offset_ns: i64,
    /// How far any offset in use may have been from the truth, in ns.
    pub(super) error_ns: u64,
    /// How far the offset moved from the begin of the run to its end, in ns.
    pub(super) drift_ns: i64,
    /// The same per second, in parts per million; of a run of a second at least.
    pub(super) drift_ppm: Option<f64>,
}

pub(super) struct ClockFlow {
    socket: UdpSocket,
    token: u64,
    /// The number of the next question.
    next: u64,
    /// When each question was asked that has no answer yet, by number.
    open: VecDeque<(u64, u64)>,
    exchanges: Vec<Exchange>,
    /// Questions left of a burst.
    burst: u32,
    due: Instant,
    heard: Option<Instant>,
    /// What others add to their clock.
    offset: Arc<AtomicI64>,
    /// Each offset in use, with the time that it was set at, in ns.
    used: Vec<(u64, i64)>,
}

impl ClockFlow {
    /// Over a socket that is connected to the server's.
    pub(super) fn new(socket: UdpSocket, token: u64, offset: Arc<AtomicI64>) -> Self {
        Self {
            socket,
            token,
            next: 0,
            open: VecDeque::new(),
            exchanges: Vec::new(),
            burst: 0,
            due: Instant::now(),
            heard: None,
            offset,
            used: Vec::new(),
        }
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Asks `count` times in quick succession from now on.
    pub(super) fn begin_burst(&mut self, count: u32) {
        self.burst = count;
        self.due = Instant::now();
    }

    /// When the next question is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// When an answer last came.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// How many questions were answered.
    pub(super) fn answers(&self) -> usize {
        self.exchanges.len()
    }

    /// Asks, if it is time.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.ask();
        self.burst = self.burst.saturating_sub(1);
        self.due = now + if self.burst > 0 { BURST_PAUSE } else { PAUSE };
    }

    fn ask(&mut self) {
        let question = Header::bare(Kind::Ping, self.token, self.next).encode();
        if self.open.len() >= MOST_OPEN {
            self.open.pop_front();
        }
        let asked = monotonic_ns();
        if self.socket.send(&question).is_err() {
            // A pending error of the socket is reported once instead of sending.
            let _ = self.socket.send(&question);
        }
        self.open.push_back((self.next, asked));
        self.next += 1;
    }

    /// Takes in the answers that have come, and uses what they say.
    pub(super) fn attend(&mut self) {
        let before = self.exchanges.len();
        let mut bytes = [0; 2 * HEADER];
        for _ in 0..64 {
            let answered = match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let answered = monotonic_ns();
                    let header = Header::decode(bytes.get(..length).unwrap_or_default());
                    header.ok().map(|header| (header, answered))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => None,
            };
            if let Some((header, answered)) = answered
                && (header.kind, header.token) == (Kind::Pong, self.token)
            {
                self.answered(&header, answered);
            }
        }
        if self.exchanges.len() > before && !self.used.is_empty() {
            self.follow();
        }
    }

    fn answered(&mut self, header: &Header, answered: u64) {
        let Ok(place) = self
            .open
            .binary_search_by_key(&header.sequence, |(number, _)| *number)
        else {
            return;
        };
        let Some((_, asked)) = self.open.remove(place) else {
            return;
        };
        self.heard = Some(Instant::now());
        self.exchanges.push(Exchange {
            asked,
            arrived: header.sent,
            left: header.sent.saturating_add(header.lateness),
            answered,
        });
        if self.exchanges.len() > MOST {
            thin(&mut self.exchanges);
        }
    }

    /// The model of the latest exchanges.
    fn recent(&self) -> Option<Model> {
        let from = self.exchanges.len().saturating_sub(RECENT);
        Model::fit(self.exchanges.get(from..)?)
    }

    /// Puts the offset in use for the first time; `false` when nothing is known.
    pub(super) fn begin(&mut self) -> bool {
        let now = monotonic_ns();
        let Some(model) = self.recent() else {
            return false;
        };
        self.set(now, model.at(now).ns);
        true
    }

    /// Follows the latest exchanges, unless the offset in use is well within what they allow.
    fn follow(&mut self) {
        let (Some(model), Some(last)) = (self.recent(), self.exchanges.last()) else {
            return;
        };
        let estimate = model.at(last.answered);
        let used = self.offset.load(Ordering::Relaxed);
        if used.abs_diff(estimate.ns) > estimate.error_ns / 4 {
            self.set(monotonic_ns(), estimate.ns);
        }
    }

    fn set(&mut self, now: u64, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.used.push((now, offset));
    }

    /// What all exchanges say of the offsets that were in use until `end`, in ns. `None` when there were none.
    pub(super) fn verdict(&self, end: u64) -> Option<Verdict> {
        let model = Model::fit(&self.exchanges)?;
        let (begun, offset_ns) = *self.used.first()?;
        let ends = self.used.iter().skip(1).map(|(set, _)| *set);
        let spans = self.used.iter().zip(ends.chain([end.max(begun)]));
        let error_ns = spans
            .flat_map(|(&(from, offset), until)| [(from, offset), (until, offset)])
            .map(|(at, offset)| model.error_of(at, offset))
            .max()?;
        let drift_ns = model.at(end).ns.saturating_sub(model.at(begun).ns);
        let seconds = end.saturating_sub(begun) as f64 / 1e9;
        Some(Verdict {
            offset_ns,
            error_ns,
            drift_ns,
            // A shorter time divides the error of both ends by next to nothing.
            drift_ppm: (seconds >= 1.0).then(|| drift_ns as f64 / 1e3 / seconds),
        })
    }

    /// The longest round trip so far, as long as it lasted.
    pub(super) fn longest_round_trip(&self) -> Option<Duration> {
        let trips = self
            .exchanges
            .iter()
            .map(|exchange| exchange.answered.saturating_sub(exchange.asked));
        trips.max().map(Duration::from_nanos)
    }
}

/// Of every two exchanges that follow each other, keeps the one with the shorter round trip.
fn thin(exchanges: &mut Vec<Exchange>) {
    let trip = |exchange: &Exchange| exchange.answered.saturating_sub(exchange.asked);
    *exchanges = exchanges
        .chunks(2)
        .filter_map(|pair| pair.iter().min_by_key(|exchange| trip(exchange)).copied())
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (ClockFlow, UdpSocket) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.local_addr().unwrap()).unwrap();
        server.connect(socket.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        (ClockFlow::new(socket, 7, Arc::default()), server)
    }

    /// Answers the next question as a clock would that is `offset` ns ahead.
    fn answer(server: &UdpSocket, offset: i64) -> u64 {
        let mut bytes = [0; HEADER];
        server.recv(&mut bytes).unwrap();
        let question = Header::decode(&bytes).unwrap();
        let pong = Header {
            sent: monotonic_ns().wrapping_add_signed(offset),
            ..Header::bare(Kind::Pong, 7, question.sequence)
        };
        server.send(&pong.encode()).unwrap();
        question.sequence
    }

    #[test]
    fn answers_are_matched_by_number_and_any_other_datagram_is_passed_over() {
        let (mut flow, server) = pair();
        let ahead = 3_600_000_000_000;
        for _ in 0..3 {
            flow.ask();
        }
        server.send(b"not an answer").unwrap();
        server
            .send(&Header::bare(Kind::Pong, 8, 0).encode())
            .unwrap();
        server
            .send(&Header::bare(Kind::Pong, 7, 99).encode())
            .unwrap();
        assert_eq!((0..3).map(|_| answer(&server, ahead)).sum::<u64>(), 3);
        flow.attend();
        assert_eq!(flow.answers(), 3);
        assert!(flow.begin());
        let used = flow.offset.load(Ordering::Relaxed);
        let verdict = flow.verdict(monotonic_ns()).unwrap();
        assert_eq!(verdict.offset_ns, used);
        assert!(used.abs_diff(ahead) <= verdict.error_ns, "{verdict:?}");
    }

    #[test]
    fn nothing_known_is_no_offset() {
        let (mut flow, _server) = pair();
        flow.ask();
        flow.attend();
        assert!(!flow.begin());
        assert!(flow.verdict(monotonic_ns()).is_none());
        assert_eq!(flow.longest_round_trip(), None);
    }

    #[test]
    fn the_offset_in_use_follows_a_clock_that_drifts_and_the_error_holds_the_rest() {
        let (mut flow, server) = pair();
        flow.ask();
        answer(&server, 0);
        flow.attend();
        assert!(flow.begin());
        // Half a second per exchange: no line is that steep, so it becomes a step.
        for step in 1..=4 {
            flow.ask();
            answer(&server, step * 500_000_000);
            flow.attend();
        }
        let used = flow.offset.load(Ordering::Relaxed);
        assert!(used.abs_diff(2_000_000_000) < 100_000_000, "{used}");
        let verdict = flow.verdict(monotonic_ns()).unwrap();
        assert!(verdict.error_ns >= 400_000_000, "{verdict:?}");
        assert!(verdict.drift_ns > 1_000_000_000, "{verdict:?}");
    }

    #[test]
    fn of_too_many_exchanges_the_slower_ones_go() {
        let exchange = |asked: u64, trip: u64| Exchange {
            asked,
            arrived: asked,
            left: asked,
            answered: asked + trip,
        };
        let mut exchanges = vec![exchange(0, 9), exchange(1, 4), exchange(2, 5)];
        thin(&mut exchanges);
        assert_eq!(exchanges, [exchange(1, 4), exchange(2, 5)]);
    }
}
