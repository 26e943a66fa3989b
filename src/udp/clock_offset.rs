//! The offset between the clocks of two hosts over time, with bounds that contain the truth. Pure.
//!
//! One exchange gives four stamps (RFC 5905, section 8):
//!
//! ```text
//!   client    asked ---\              /---> answered
//!   server              \-> arrived  / left
//! ```
//!
//! No datagram arrives before it was sent. Therefore, on any path, `arrived - asked` is never below the offset at `asked`, and
//! `left - answered` is never above the offset at `answered`. With a constant drift, the offset is a straight line below all points
//! of the first kind and above all points of the second kind:
//!
//! ```text
//!   offset   x       x      forward: offset + delay there
//!      ^        x  x    x
//!      |  ......--------..   every line between the clouds is possible; the bounds at a time are those of all these lines
//!      |  --------
//!      |     o    o   o     backward: offset - delay back
//!      |   o        o
//!      +------------------> time
//! ```
//!
//! Only the hulls of the clouds matter: the exchanges with the least delay (Zhang, Liu and Xia, *Clock Synchronization Algorithms for
//! Network Measurements*, INFOCOM 2002). If no line fits, the drift was not constant, and each half of the time has its own lines.
//! The estimate is the middle of the bounds, and its error half their distance, but at least half of the best round trip.

/// The largest drift between two clocks, in ns per second: twice the most that the kernel corrects (adjtimex(2)).
const MAX_DRIFT: f64 = 1e6;

/// Steps of each search over the drift. Each step reduces the interval by a third: far below 1 ns per hour.
const STEPS: usize = 80;

/// The stamps of one exchange, each in ns of the clock of the side that took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Client: when it sent the ping.
    pub asked: u64,
    /// Server: when the ping arrived.
    pub arrived: u64,
    /// Server: when it sent the pong.
    pub left: u64,
    /// Client: when the pong arrived.
    pub answered: u64,
}

impl Exchange {
    /// Time on the path in both directions, in ns; `None` if the stamps are impossible.
    fn round_trip(&self) -> Option<u64> {
        let total = self.answered.checked_sub(self.asked)?;
        total.checked_sub(self.left.checked_sub(self.arrived)?)
    }
}

/// An estimate of the offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offset {
    /// The server's clock minus the client's, in ns.
    pub ns: i64,
    /// Largest distance from the truth, in ns.
    pub error_ns: u64,
}

/// The offset over the time of the exchanges.
#[derive(Debug, Clone)]
pub struct Model {
    /// In order of time; the last piece has no end.
    pieces: Vec<Piece>,
    best_round_trip: u64,
}

/// The bounds of the offset in a part of the time. Times are in s from `start`, offsets in ns from `base`.
#[derive(Debug, Clone)]
struct Piece {
    start: u64,
    base: i128,
    /// Start of the next piece, in ns of the client's clock.
    end: u64,
    above: Vec<(f64, f64)>,
    below: Vec<(f64, f64)>,
    /// The drifts of all lines that fit, in ns a second.
    drifts: (f64, f64),
}

impl Model {
    /// Fits lines to the exchanges, in any order. `None` if no exchange is possible.
    pub fn fit(exchanges: &[Exchange]) -> Option<Self> {
        let mut possible: Vec<Exchange> = exchanges
            .iter()
            .filter(|exchange| exchange.round_trip().is_some())
            .copied()
            .collect();
        possible.sort_by_key(|exchange| exchange.asked);
        let best_round_trip = possible.iter().filter_map(Exchange::round_trip).min()?;
        let mut pieces = Vec::new();
        split(&possible, &mut pieces);
        if let Some(last) = pieces.last_mut() {
            last.end = u64::MAX;
        }
        Some(Self {
            pieces,
            best_round_trip,
        })
    }

    /// The estimate at a time of the client's clock, in ns.
    pub fn at(&self, client: u64) -> Offset {
        let (low, high) = self.bounds(client);
        let half = high.saturating_sub(low).max(0) as u64;
        Offset {
            ns: clamp(i128::from(low) + i128::from(high.saturating_sub(low)) / 2),
            error_ns: half.div_ceil(2).max(self.best_round_trip.div_ceil(2)),
        }
    }

    /// Largest distance from the truth of an offset of `ns` that was used at a time, in ns.
    pub fn error_of(&self, client: u64, ns: i64) -> u64 {
        let (low, high) = self.bounds(client);
        let error = ns.saturating_sub(low).max(high.saturating_sub(ns));
        let estimate = self.at(client);
        // The middle of the bounds has the least error; any other offset has its distance from the middle on top.
        (error.max(0) as u64).max(estimate.error_ns.saturating_add(ns.abs_diff(estimate.ns)))
    }

    /// The shortest round trip of all exchanges, in ns.
    pub fn best_round_trip(&self) -> u64 {
        self.best_round_trip
    }

    /// The lowest and the highest offset that the exchanges allow at a time, in ns.
    fn bounds(&self, client: u64) -> (i64, i64) {
        let piece = self.pieces.iter().find(|piece| client < piece.end);
        piece
            .or(self.pieces.last())
            .map_or((i64::MIN, i64::MAX), |piece| piece.bounds(client))
    }
}

/// Adds pieces for `exchanges`, which are in order: one piece if a line fits them all, else the pieces of each half.
fn split(exchanges: &[Exchange], pieces: &mut Vec<Piece>) {
    let Some((first, rest)) = exchanges.split_first() else {
        return;
    };
    if let Some(piece) = Piece::new(exchanges) {
        return pieces.push(piece);
    }
    if rest.is_empty() {
        // A single possible exchange always has a line.
        return pieces.extend(Piece::new(&[*first]));
    }
    let (before, after) = exchanges.split_at(exchanges.len() / 2);
    split(before, pieces);
    if let (Some(piece), Some(next)) = (pieces.last_mut(), after.first()) {
        piece.end = next.asked;
    }
    split(after, pieces);
}

impl Piece {
    /// The lines that fit all of `exchanges`; `None` if there is none.
    fn new(exchanges: &[Exchange]) -> Option<Self> {
        let best = exchanges
            .iter()
            .min_by_key(|exchange| exchange.round_trip())?;
        let start = exchanges.first()?.asked;
        let base = i128::from(best.arrived) - i128::from(best.asked);
        let point = |client: u64, server: u64| {
            let seconds = (i128::from(client) - i128::from(start)) as f64 / 1e9;
            let offset = i128::from(server) - i128::from(client) - base;
            (seconds, offset as f64)
        };
        let forward = exchanges
            .iter()
            .map(|exchange| point(exchange.asked, exchange.arrived))
            .collect();
        let backward = exchanges
            .iter()
            .map(|exchange| point(exchange.answered, exchange.left))
            .collect();
        let mut piece = Self {
            start,
            base,
            end: u64::MAX,
            above: hull(forward, 1.0),
            below: hull(backward, -1.0),
            drifts: (0.0, 0.0),
        };
        // The distance between the clouds along a drift is concave in the drift.
        let distance = |drift: f64| piece.ceiling(0.0, drift) - piece.floor(0.0, drift);
        let widest = highest(-MAX_DRIFT, MAX_DRIFT, &distance);
        if distance(widest) < 0.0 {
            return None;
        }
        piece.drifts = (
            edge(widest, -MAX_DRIFT, &distance),
            edge(widest, MAX_DRIFT, &distance),
        );
        Some(piece)
    }

    /// The highest value at `seconds` of a line with this drift.
    fn ceiling(&self, seconds: f64, drift: f64) -> f64 {
        let lines = self.above.iter().map(|(x, y)| y + drift * (seconds - x));
        lines.fold(f64::INFINITY, f64::min)
    }

    /// The lowest value at `seconds` of a line with this drift.
    fn floor(&self, seconds: f64, drift: f64) -> f64 {
        let lines = self.below.iter().map(|(x, y)| y + drift * (seconds - x));
        lines.fold(f64::NEG_INFINITY, f64::max)
    }

    fn bounds(&self, client: u64) -> (i64, i64) {
        let seconds = (i128::from(client) - i128::from(self.start)) as f64 / 1e9;
        let (low, high) = self.drifts;
        let top = |drift: f64| self.ceiling(seconds, drift);
        let bottom = |drift: f64| -self.floor(seconds, drift);
        let top = top(highest(low, high, &top));
        let bottom = -bottom(highest(low, high, &bottom));
        (
            clamp(self.base + bottom.floor() as i128),
            clamp(self.base + top.ceil() as i128),
        )
    }
}

/// The maximum of a concave function between `low` and `high`.
fn highest(mut low: f64, mut high: f64, of: &impl Fn(f64) -> f64) -> f64 {
    for _ in 0..STEPS {
        let third = (high - low) / 3.0;
        if of(low + third) < of(high - third) {
            low += third;
        } else {
            high -= third;
        }
    }
    (low + high) / 2.0
}

/// The point nearest to `outer` at which a concave function, which is not negative at `inner`, is not negative.
fn edge(mut inner: f64, mut outer: f64, of: &impl Fn(f64) -> f64) -> f64 {
    if of(outer) >= 0.0 {
        return outer;
    }
    for _ in 0..STEPS {
        let middle = (inner + outer) / 2.0;
        if of(middle) >= 0.0 {
            inner = middle;
        } else {
            outer = middle;
        }
    }
    inner
}

/// The lower convex hull of the points with `side` 1, the upper one with -1 (Andrew's monotone chain).
fn hull(mut points: Vec<(f64, f64)>, side: f64) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| {
        a.0.total_cmp(&b.0)
            .then((side * a.1).total_cmp(&(side * b.1)))
    });
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for point in points {
        while let [.., a, b] = hull[..] {
            let turn = (b.0 - a.0) * (point.1 - a.1) - (b.1 - a.1) * (point.0 - a.0);
            if side * turn > 0.0 {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

fn clamp(ns: i128) -> i64 {
    ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A clock that is `offset` ns ahead at time 0 and gains `drift` ns per second.
    #[derive(Debug, Clone, Copy)]
    struct Truth {
        offset: i64,
        drift: f64,
    }

    const START: u64 = 1_000_000_000_000_000;

    impl Truth {
        fn at(self, client: u64) -> i64 {
            self.offset + (self.drift * ((client - START) as f64 / 1e9)) as i64
        }

        fn server(self, client: u64) -> u64 {
            client.wrapping_add_signed(self.at(client))
        }

        /// An exchange that begins `after` ns after the start, with these delays in ns.
        fn exchange(self, after: u64, there: u64, back: u64) -> Exchange {
            let asked = START + after;
            Exchange {
                asked,
                arrived: self.server(asked + there),
                left: self.server(asked + there + 700),
                answered: asked + there + 700 + back,
            }
        }
    }

    #[test]
    fn without_a_possible_exchange_there_is_no_model() {
        assert!(Model::fit(&[]).is_none());
        let backwards = Exchange {
            asked: 10,
            arrived: 5,
            left: 5,
            answered: 9,
        };
        assert!(Model::fit(&[backwards]).is_none());
    }

    #[test]
    fn queued_exchanges_do_not_widen_the_bounds() {
        let truth = Truth {
            offset: 5_000,
            drift: 0.0,
        };
        let mut exchanges: Vec<_> = (0..9)
            .map(|n| truth.exchange(n * 1_000_000, 900_000, 10_000))
            .collect();
        exchanges.push(truth.exchange(4_500_000, 10_000, 10_000));
        let offset = Model::fit(&exchanges).unwrap().at(START + 4_500_000);
        assert!(offset.ns.abs_diff(5_000) < 200, "{offset:?}");
        assert!(offset.error_ns <= 10_200, "{offset:?}");
    }

    #[test]
    fn an_hour_of_drift_is_estimated() {
        for drift in [-200_000.0, 200_000.0] {
            let truth = Truth {
                offset: -86_400_000_000_000,
                drift,
            };
            // Ten exchanges per second, each delayed by up to 2 ms at random, more in one direction than in the other.
            let mut noise = 12_345u64;
            let exchanges: Vec<_> = (0..36_000u64)
                .map(|n| {
                    noise = noise
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    truth.exchange(
                        n * 100_000_000,
                        300_000 + (noise >> 43),
                        200_000 + (noise >> 42) % 4_000_000,
                    )
                })
                .collect();
            let model = Model::fit(&exchanges).unwrap();
            for after in [0, 60, 1_800, 3_599] {
                let client = START + after * 1_000_000_000;
                let offset = model.at(client);
                assert!(
                    offset.ns.abs_diff(truth.at(client)) <= offset.error_ns,
                    "{offset:?}"
                );
                // Little more than half the best round trip.
                assert!((250_000..290_000).contains(&offset.error_ns), "{offset:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_changes_its_drift_has_more_than_one_line() {
        let truths = [(0, 400_000.0), (10_000_000_000u64, -400_000.0)];
        let exchanges: Vec<_> = truths
            .iter()
            .flat_map(|&(after, drift)| {
                let truth = Truth { offset: 0, drift };
                // The second line begins where the first one ends.
                (0..100).map(move |n| {
                    let mut exchange = truth.exchange(n * 100_000_000, 20_000, 20_000);
                    let shift = if after > 0 { 4_000_000 } else { 0 };
                    exchange.asked += after;
                    exchange.answered += after;
                    exchange.arrived += after + shift;
                    exchange.left += after + shift;
                    exchange
                })
            })
            .collect();
        let model = Model::fit(&exchanges).unwrap();
        for (client, truth) in [
            (START + 5_000_000_000, 2_000_000),
            (START + 15_000_000_000, 2_000_000i64),
        ] {
            let offset = model.at(client);
            assert!(offset.ns.abs_diff(truth) <= offset.error_ns, "{offset:?}");
            assert!(offset.error_ns < 60_000, "{offset:?}");
        }
    }

    #[test]
    fn the_error_of_a_used_offset_includes_its_distance_from_the_estimate() {
        let truth = Truth {
            offset: 1_000,
            drift: 0.0,
        };
        let model = Model::fit(&[truth.exchange(0, 500, 500)]).unwrap();
        let best = model.at(START);
        assert_eq!(model.error_of(START, best.ns), best.error_ns);
        assert!(model.error_of(START, best.ns + 9_000) >= best.error_ns + 9_000);
        assert!(model.error_of(START, best.ns - 9_000) >= best.error_ns + 9_000);
    }

    proptest! {
        #[test]
        fn the_truth_lies_within_the_error(
            offset in -86_400_000_000_000i64..86_400_000_000_000,
            drift in -200_000.0..200_000.0f64,
            gap in 1_000_000u64..1_000_000_000,
            delays in prop::collection::vec((1u64..1_000_000_000, 1u64..1_000_000_000), 1..60),
            at in 0.0..1.0f64,
        ) {
            let truth = Truth { offset, drift };
            let exchanges: Vec<_> = delays.iter().enumerate()
                .map(|(n, &(there, back))| truth.exchange(n as u64 * gap, there, back))
                .collect();
            let model = Model::fit(&exchanges).unwrap();
            let client = START + (at * (delays.len() as u64 * gap) as f64) as u64;
            let estimate = model.at(client);
            // Each stamp is rounded to whole ns.
            prop_assert!(estimate.ns.abs_diff(truth.at(client)) <= estimate.error_ns + 4, "{:?} {}", estimate, truth.at(client));
            prop_assert!(estimate.error_ns >= model.best_round_trip() / 2);
        }

        #[test]
        fn no_stamps_panic(stamps in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 0..20), at: u64, ns: i64) {
            let exchanges: Vec<_> = stamps.into_iter()
                .map(|(asked, arrived, left, answered)| Exchange { asked, arrived, left, answered })
                .collect();
            if let Some(model) = Model::fit(&exchanges) {
                model.at(at);
                model.error_of(at, ns);
            }
        }
    }
}
