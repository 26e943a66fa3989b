//! The schedule of request starts. Pure: time is an argument.
//!
//! **Closed loop**: an idle connection starts the next request at once, so slow answers reduce the load. **Open loop**: each
//! request has its time, whether or not earlier ones are answered. Without an idle connection it starts late, and its latency
//! still counts from its time (coordinated omission).

/// How long after the end a due request may still start, in ns: threads wake this late. A request that is not started by then
/// is backlog.
const GRACE: u64 = 10_000_000;

/// The request starts of one thread. Times are in ns of one clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    end: u64,
    open: Option<Open>,
}

/// Evenly spaced requests: request `i` is due `(i + phase) / rate` seconds after the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Requests a second.
    pub rate: f64,
    /// The first request is due by this share of the time between two after the start.
    pub phase: f64,
}

/// A thread of several that take turns: of every `count` requests, the one with number `number` is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From 0.
    pub number: u64,
    /// Number of threads.
    pub count: u64,
}

#[derive(Debug, Clone)]
struct Open {
    start: u64,
    pace: Pace,
    /// Number of the next request, among those of all threads.
    next: u64,
    /// Requests of all threads.
    all: u64,
    /// Number of threads.
    step: u64,
}

/// The next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Start a request with this intended time.
    Now(u64),
    /// Nothing is due before this time.
    At(u64),
    /// The schedule is over.
    Never,
}

impl Schedule {
    /// A closed loop until `end`.
    pub fn closed(end: u64) -> Self {
        Self { end, open: None }
    }

    /// An open loop from `start` until `end`: the requests of `pace` at this thread's turns.
    pub fn open(start: u64, end: u64, pace: Pace, turn: Turn) -> Self {
        let open = Open {
            start,
            pace,
            next: turn.number,
            all: pace.requests(end.saturating_sub(start)),
            step: turn.count.max(1),
        };
        Self {
            end,
            open: Some(open),
        }
    }

    /// Whether requests have intended times.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The next action of an idle connection at `now`. [`Due::Now`] counts the request as started.
    #[inline]
    pub fn next(&mut self, now: u64) -> Due {
        if self.is_over(now) {
            return Due::Never;
        }
        let Some(open) = &mut self.open else {
            return Due::Now(now);
        };
        let at = open.time();
        if at > now {
            return Due::At(at);
        }
        open.next = open.next.saturating_add(open.step);
        Due::Now(at)
    }

    /// Whether no further request will be due.
    #[inline]
    pub fn is_over(&self, now: u64) -> bool {
        match &self.open {
            None => now >= self.end,
            Some(open) => open.next >= open.all || now >= self.end.saturating_add(GRACE),
        }
    }

    /// Requests that were due by `end` and not started.
    pub fn left(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| {
            open.all.saturating_sub(open.next).div_ceil(open.step)
        })
    }
}

impl Pace {
    /// Requests that are due less than `ns` after the start: the smallest whole number of at least `rate * seconds - phase`.
    fn requests(self, ns: u64) -> u64 {
        let exact = self.rate * (ns as f64 / 1e9) - self.phase;
        let nearest = exact.round();
        // A product of fractions is a little off a whole number.
        let is_whole = (exact - nearest).abs() <= 1e-9 * exact.abs().max(1.0);
        // A conversion from outside the range saturates.
        if is_whole {
            nearest as u64
        } else {
            exact.ceil() as u64
        }
    }

    /// The time from the start to a request, in ns.
    fn offset(self, number: u64) -> u64 {
        ((number as f64 + self.phase) / self.rate * 1e9) as u64
    }
}

impl Open {
    fn time(&self) -> u64 {
        // Computed from the start each time: summed gaps would drift.
        self.start.saturating_add(self.pace.offset(self.next))
    }
}

#[cfg(test)]
mod tests;
