//! When a sender without credit requests it: first after 10 ms, then after twice the time, up to 640 ms. Pure.

/// Time until the first request, in ns.
const FIRST_NS: u64 = 10_000_000;

/// Longest time between two requests, in ns.
const MAX_NS: u64 = 640_000_000;

/// The timer of the requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct CreditRequest {
    /// Credit is read from the socket when less than this is left.
    pub(super) low_water: u64,
    /// Time of the next request, in ns; `None` while there is credit.
    next: Option<u64>,
    /// When the credit was used up, in ns.
    since: Option<u64>,
    pause: u64,
}

impl CreditRequest {
    /// Of a sender that has just been granted `credit` datagrams.
    pub(super) fn after_grant(credit: u64) -> Self {
        Self {
            // At 0, a sender whose last credit is used up would never read the socket again.
            low_water: (credit / 2).max(1),
            ..Self::default()
        }
    }

    /// Time of the next request, in ns.
    pub(super) fn at(&mut self, now: u64) -> u64 {
        *self.next.get_or_insert(now + self.pause)
    }

    /// How long the sender has had no credit, in ns.
    pub(super) fn waited(&mut self, now: u64) -> u64 {
        now.saturating_sub(*self.since.get_or_insert(now))
    }

    /// Doubles the time to the next request.
    pub(super) fn back_off(&mut self, now: u64) {
        self.pause = (self.pause * 2).min(MAX_NS);
        self.next = Some(now + self.pause);
    }
}

impl Default for CreditRequest {
    fn default() -> Self {
        Self {
            low_water: u64::MAX,
            next: None,
            since: None,
            pause: FIRST_NS,
        }
    }
}
