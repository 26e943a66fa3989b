//! The client's side of the clock exchanges: a separate UDP flow on the path of the data, before, during and after the run.
//!
//! Several exchanges are in flight at once and are matched by number, so a round trip may take any time. The offset in use follows
//! the latest exchanges. All offsets that were in use are kept, and their error is computed at the end from all exchanges.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::sys::clock::monotonic_ns;
use crate::udp::clock_offset::{Exchange, Model};
use crate::udp::relay_header::RelayHeader;
use crate::udp::wire::header::{HEADER, Header, Kind};

/// Time between two exchanges in a burst, before and after the run.
const BURST_PAUSE: Duration = Duration::from_millis(2);

/// Time between two exchanges during the run.
const PAUSE: Duration = Duration::from_millis(100);

/// Exchanges that determine the offset in use: those of the last 16 s.
const RECENT: usize = 160;

/// Most exchanges kept, 32 bytes each. With more, the one with the longer round trip of every two is dropped.
const MAX_EXCHANGES: usize = 1 << 16;

/// Most pings in flight.
const MAX_OPEN: usize = 4_096;

/// The estimate from all exchanges of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClockEstimate {
    /// The offset in use when the run began, in ns.
    pub(super) offset_ns: i64,
    /// Largest distance of any offset in use from the truth, in ns.
    pub(super) error_ns: u64,
    /// Change of the offset from the begin of the run to its end, in ns.
    pub(super) drift_ns: i64,
    /// Largest distance of `drift_ns` from the truth, in ns.
    pub(super) drift_error_ns: u64,
    /// Change of the offset per second, in parts per million; `None` for a run shorter than a second.
    pub(super) drift_ppm: Option<f64>,
    /// Largest distance of `drift_ppm` from the truth.
    pub(super) drift_error_ppm: Option<f64>,
}

pub(super) struct ClockFlow {
    socket: UdpSocket,
    token: u64,
    /// The header in front of each datagram.
    relay: RelayHeader,
    /// The number of the next ping.
    next: u64,
    /// The number of the first ping after the run began.
    begun: u64,
    /// One above the highest number of a pong.
    answered: u64,
    /// Number and stamp of each ping in flight.
    open: VecDeque<(u64, u64)>,
    exchanges: Vec<Exchange>,
    /// Pings left of a burst.
    burst: u32,
    due: Instant,
    last_pong: Option<Instant>,
    /// The offset in use, which the threads add to their clock.
    offset: Arc<AtomicI64>,
    /// Each offset in use, with the time at which it was set, in ns.
    used: Vec<(u64, i64)>,
}

impl ClockFlow {
    /// Clock exchanges over a connected socket.
    pub(super) fn new(
        socket: UdpSocket,
        token: u64,
        relay: RelayHeader,
        offset: Arc<AtomicI64>,
    ) -> Self {
        Self {
            socket,
            token,
            relay,
            next: 0,
            begun: 0,
            answered: 0,
            open: VecDeque::new(),
            exchanges: Vec::new(),
            burst: 0,
            due: Instant::now(),
            last_pong: None,
            offset,
            used: Vec::new(),
        }
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Starts a burst of `count` pings.
    pub(super) fn begin_burst(&mut self, count: u32) {
        self.burst = count;
        self.due = Instant::now();
    }

    /// When the next ping is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// When a pong last arrived.
    pub(super) fn last_pong(&self) -> Option<Instant> {
        self.last_pong
    }

    /// Number of exchanges kept.
    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Exchanges since [`Self::begin`] that were lost: a later ping was answered.
    pub(super) fn lost(&self) -> u64 {
        let lost = |number: u64| (self.begun..self.answered).contains(&number);
        self.open.iter().filter(|(number, _)| lost(*number)).count() as u64
    }

    /// Sends a ping, if it is due.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.ping();
        self.burst = self.burst.saturating_sub(1);
        self.due = now + if self.burst > 0 { BURST_PAUSE } else { PAUSE };
    }

    fn ping(&mut self) {
        let ping = Header::bare(Kind::Ping, self.token, self.next).encode();
        let ping = self.relay.wrap(&ping);
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        let asked = monotonic_ns();
        if self.socket.send(&ping).is_err() {
            // A send may report a pending error of the socket instead of sending.
            let _ = self.socket.send(&ping);
        }
        self.open.push_back((self.next, asked));
        self.next += 1;
    }

    /// Reads pongs, and updates the offset in use.
    pub(super) fn read(&mut self) {
        let before = self.exchanges.len();
        let mut bytes = [0; 2 * HEADER];
        for _ in 0..64 {
            let answered = match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let answered = monotonic_ns();
                    let datagram = bytes.get(..length).unwrap_or_default();
                    let header = Header::decode(self.relay.payload(datagram));
                    header.ok().map(|header| (header, answered))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => None,
            };
            if let Some((header, answered)) = answered
                && (header.kind, header.token) == (Kind::Pong, self.token)
            {
                self.on_pong(&header, answered);
            }
        }
        if self.exchanges.len() > before && !self.used.is_empty() {
            self.follow();
        }
    }

    fn on_pong(&mut self, header: &Header, answered: u64) {
        let Ok(place) = self
            .open
            .binary_search_by_key(&header.sequence, |(number, _)| *number)
        else {
            return;
        };
        let Some((_, asked)) = self.open.remove(place) else {
            return;
        };
        self.answered = self.answered.max(header.sequence.saturating_add(1));
        self.last_pong = Some(Instant::now());
        self.exchanges.push(Exchange {
            asked,
            arrived: header.sent,
            left: header.sent.saturating_add(header.lateness),
            answered,
        });
        if self.exchanges.len() > MAX_EXCHANGES {
            thin(&mut self.exchanges);
        }
    }

    /// The model of the recent exchanges.
    fn recent(&self) -> Option<Model> {
        let from = self.exchanges.len().saturating_sub(RECENT);
        Model::fit(self.exchanges.get(from..)?)
    }

    /// Sets the first offset in use; `false` if there was no exchange.
    pub(super) fn begin(&mut self) -> bool {
        let now = monotonic_ns();
        let Some(model) = self.recent() else {
            return false;
        };
        self.set(now, model.at(now).ns);
        self.begun = self.next;
        true
    }

    /// Updates the offset in use, unless it is well within the error of the latest estimate.
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

    /// The estimate from all exchanges, with the error of the offsets that were in use until `end`, in ns. `None` without an exchange.
    pub(super) fn estimate(&self, end: u64) -> Option<ClockEstimate> {
        let model = Model::fit(&self.exchanges)?;
        let (begun, offset_ns) = *self.used.first()?;
        let ends = self.used.iter().skip(1).map(|(set, _)| *set);
        let spans = self.used.iter().zip(ends.chain([end.max(begun)]));
        let error_ns = spans
            .flat_map(|(&(from, offset), until)| [(from, offset), (until, offset)])
            .map(|(at, offset)| model.error_of(at, offset))
            .max()?;
        let (first, last) = (model.at(begun), model.at(end));
        let drift_ns = last.ns.saturating_sub(first.ns);
        let drift_error_ns = first.error_ns.saturating_add(last.error_ns);
        let seconds = end.saturating_sub(begun) as f64 / 1e9;
        // In a shorter run the error of the drift is too large.
        let ppm = |ns: f64| (seconds >= 1.0).then(|| ns / 1e3 / seconds);
        Some(ClockEstimate {
            offset_ns,
            error_ns,
            drift_ns,
            drift_error_ns,
            drift_ppm: ppm(drift_ns as f64),
            drift_error_ppm: ppm(drift_error_ns as f64),
        })
    }

    /// The longest round trip so far, including the server's time.
    pub(super) fn longest_round_trip(&self) -> Option<Duration> {
        let trips = self
            .exchanges
            .iter()
            .map(|exchange| exchange.answered.saturating_sub(exchange.asked));
        trips.max().map(Duration::from_nanos)
    }
}

/// Keeps the exchange with the shorter round trip of every two consecutive ones.
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
        (
            ClockFlow::new(socket, 7, RelayHeader::default(), Arc::default()),
            server,
        )
    }

    /// Replies to the next ping with a clock that is `offset` ns ahead.
    fn answer(server: &UdpSocket, offset: i64) -> u64 {
        let mut bytes = [0; HEADER];
        server.recv(&mut bytes).unwrap();
        let ping = Header::decode(&bytes).unwrap();
        let pong = Header {
            sent: monotonic_ns().wrapping_add_signed(offset),
            ..Header::bare(Kind::Pong, 7, ping.sequence)
        };
        server.send(&pong.encode()).unwrap();
        ping.sequence
    }

    #[test]
    fn pongs_are_matched_by_number_and_other_datagrams_are_ignored() {
        let (mut flow, server) = pair();
        let ahead = 3_600_000_000_000;
        for _ in 0..3 {
            flow.ping();
        }
        server.send(b"not a pong").unwrap();
        server
            .send(&Header::bare(Kind::Pong, 8, 0).encode())
            .unwrap();
        server
            .send(&Header::bare(Kind::Pong, 7, 99).encode())
            .unwrap();
        assert_eq!((0..3).map(|_| answer(&server, ahead)).sum::<u64>(), 3);
        flow.read();
        assert_eq!(flow.exchanges(), 3);
        assert!(flow.begin());
        let used = flow.offset.load(Ordering::Relaxed);
        let estimate = flow.estimate(monotonic_ns()).unwrap();
        assert_eq!(estimate.offset_ns, used);
        assert!(used.abs_diff(ahead) <= estimate.error_ns, "{estimate:?}");
    }

    #[test]
    fn a_ping_is_lost_once_a_later_one_of_the_run_is_answered() {
        let (mut flow, server) = pair();
        // The first is lost before the run, the third during it, and the fifth may be in flight.
        for _ in 0..2 {
            flow.ping();
        }
        server.recv(&mut [0; HEADER]).unwrap();
        answer(&server, 0);
        flow.read();
        assert!(flow.begin());
        for _ in 0..3 {
            flow.ping();
        }
        server.recv(&mut [0; HEADER]).unwrap();
        answer(&server, 0);
        flow.read();
        assert_eq!(flow.lost(), 1);
    }

    #[test]
    fn a_delay_that_grows_is_within_the_error_of_the_drift() {
        let (mut flow, _server) = pair();
        let (start, step, count) = (1_000_000_000_000, 100_000_000, 100);
        // The delay of the pings grows by 5 ms a second over 10 s, and the true drift is 0.
        flow.exchanges = (0..=count)
            .map(|number| {
                let asked = start + number * step;
                let arrived = asked + 100_000 + number * 500_000;
                Exchange {
                    asked,
                    arrived,
                    left: arrived,
                    answered: arrived + 100_000,
                }
            })
            .collect();
        flow.used = vec![(start, 0)];
        let estimate = flow.estimate(start + count * step).unwrap();
        let (drift, error) = (estimate.drift_ns, estimate.drift_error_ns);
        assert!(drift.unsigned_abs() <= error, "{estimate:?}");
        let ppm = estimate.drift_ppm.zip(estimate.drift_error_ppm);
        assert!(
            ppm.is_some_and(|(ppm, error)| ppm.abs() <= error),
            "{estimate:?}"
        );
    }

    #[test]
    fn without_a_pong_there_is_no_offset() {
        let (mut flow, _server) = pair();
        flow.ping();
        flow.read();
        assert!(!flow.begin());
        assert!(flow.estimate(monotonic_ns()).is_none());
        assert_eq!(flow.longest_round_trip(), None);
    }

    #[test]
    fn the_offset_in_use_follows_a_drifting_clock_and_the_error_contains_the_rest() {
        let (mut flow, server) = pair();
        flow.ping();
        answer(&server, 0);
        flow.read();
        assert!(flow.begin());
        // Half a second per exchange: no line is that steep, so the model has a step.
        for step in 1..=4 {
            flow.ping();
            answer(&server, step * 500_000_000);
            flow.read();
        }
        let used = flow.offset.load(Ordering::Relaxed);
        assert!(used.abs_diff(2_000_000_000) < 100_000_000, "{used}");
        let estimate = flow.estimate(monotonic_ns()).unwrap();
        assert!(estimate.error_ns >= 400_000_000, "{estimate:?}");
        assert!(estimate.drift_ns > 1_000_000_000, "{estimate:?}");
    }

    #[test]
    fn the_slower_exchanges_are_dropped_when_there_are_too_many() {
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
