//! Which method forwards bulk data, learnt from what each costs: pure.
//!
//! Copying or splicing is cheaper depending on the machine, its other load and the number of streams, and that changes within
//! minutes. So each worker compares both on the transfers that it has. Only directions in bulk transfer
//! ([`super::relay::Flow::is_bulk`]) take part: messages and short connections are always copied.
//!
//! ```text
//!   waiting ----> warming up ----> measuring ----> waiting
//!                     ^ WARM_UP        | WINDOW
//!                     +----------------+ the next of WINDOWS
//! ```
//!
//! The first look starts after `START` bulk bytes. The pause after a look is `SHARE` times the bytes that it forwarded by the
//! method that is not chosen.
//!
//! A look at both methods is `WINDOWS` windows. In each, all bulk directions of the worker use one method, and the CPU time
//! of the thread and the time that has passed are divided by the bytes that it forwarded. That includes wake-ups and waiting
//! for events, needs two readings of the thread's clock a window, and is as exact with either backend. The bytes before a
//! window are left out, since buffers still contain those of the other method.
//!
//! A method has two costs, CPU and time per byte, and they may disagree. The method with the smaller product is chosen: the
//! worse of its two costs is then closer to that of the other method. A worker that mostly sleeps does not limit the rate, so
//! for it only the CPU counts. Splicing, as ratios to copying (`epoll`, loopback, two shared cores, Linux 6.18, medians of 4 to
//! 6 interleaved rounds, four series within half an hour; noise of one round is up to 1.5):
//!
//! | streams | throughput | CPU per byte |
//! |---|---|---|
//! | 1 | 0.91, 1.13, 0.91 | 0.79, 0.63, 0.78 |
//! | 4 | 0.99, 0.92, 0.80 | 0.80, 0.80, 0.80 |
//!
//! In the last series, `auto` had 1.06 times the throughput of copying at 0.87 of the CPU with one stream, and 0.89 at 0.90 with
//! four. Over `uring`, `auto` had 1.22 times the throughput of copying there at 0.57 of the CPU with one stream (7 rounds).

use super::relay::Via;

/// Bulk bytes before the first look.
const START: u64 = 16_000_000;

/// Bulk bytes between a change of the method and a window: the bytes in the buffers of a few sockets.
const WARM_UP: u64 = 4_000_000;

/// Bulk bytes of a window, 20 to 50 ms on loopback. Windows of 16 MB differed by a factor of two in CPU per byte, as a worker
/// shares a CPU with one end of the transfer or with the other.
const WINDOW: u64 = 48_000_000;

/// The methods of the windows of a look. A steady change of the costs affects both alike.
const WINDOWS: [Via; 8] = {
    use Via::{Copy, Pipe};
    [Pipe, Copy, Copy, Pipe, Pipe, Copy, Copy, Pipe]
};

/// Looks before the first pause. Their mean is the first estimate.
const FIRST_LOOKS: u32 = 2;

/// Bulk bytes for each byte that a look forwarded by the method that is not chosen, which is 2.5 % of them.
const SHARE: u64 = 40;

/// Bulk bytes after which an unavailable method is tried again.
const RETRY: u64 = 10_000_000_000;

/// The other method replaces the chosen one if its product of costs is smaller than this part of that of the chosen one.
const MARGIN: f64 = 0.95;

/// The least weight of a look in the mean.
const WEIGHT: f64 = 0.25;

/// The largest factor between a look and the mean; a greater one counts as this.
const OUTLIER: f64 = 4.0;

/// The longest window in ns. Slower transfers cost little by either method.
const MAX_TIME: u64 = 5_000_000_000;

/// The least part of the time for which a worker runs if it may limit the rate.
const BUSY: f64 = 0.25;

/// CPU time in ns of a turn that forwards a message, roughly. Windows with many messages show no difference between methods.
const MESSAGE: u64 = 8_000;

/// What a worker has forwarded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Bytes of directions in bulk transfer.
    pub bulk: u64,
    /// Turns of other directions that forwarded bytes.
    pub messages: u64,
}

impl Traffic {
    /// Adds the bytes that one direction forwarded in a turn.
    pub fn add(&mut self, bytes: u64, is_bulk: bool) {
        self.bytes += bytes;
        match is_bulk {
            true => self.bulk += bytes,
            false => self.messages += u64::from(bytes > 0),
        }
    }
}

/// Clocks in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// CPU time of the worker's thread.
    pub cpu: u64,
    /// Time that has passed.
    pub time: u64,
}

/// What a byte costs by one method, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// CPU time of the worker's thread; as seconds per GB the same number.
    pub cpu: f64,
    /// Time; the inverse is the throughput in GB/s.
    pub time: f64,
}

/// What is known of the methods.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Costs {
    /// Of copying.
    pub copy: Cost,
    /// Of splicing.
    pub splice: Cost,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waiting,
    WarmingUp,
    Measuring(Traffic, Clocks),
}

/// The choice of one worker.
#[derive(Debug)]
pub struct Learner {
    chosen: Via,
    /// The method in use: that of a window, or the chosen one.
    method: Via,
    state: State,
    /// The bulk bytes at which the state changes.
    next: u64,
    /// Completed windows of this look.
    window: usize,
    samples: [Vec<Cost>; 2],
    /// Bulk bytes forwarded by the method that is not chosen, since the last pause.
    tried: u64,
    /// Bulk bytes when the method was last changed.
    changed: u64,
    looks: u32,
    mean: Costs,
    is_unavailable: bool,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            chosen: Via::Copy,
            method: Via::Copy,
            state: State::Waiting,
            next: START,
            window: 0,
            samples: Default::default(),
            tried: 0,
            changed: 0,
            looks: 0,
            mean: Costs::default(),
            is_unavailable: false,
        }
    }
}

impl Learner {
    /// The method that bulk transfers use now.
    pub fn method(&self) -> Via {
        self.method
    }

    /// The method that bulk transfers use outside of looks.
    pub fn chosen(&self) -> Via {
        self.chosen
    }

    /// What a byte costs by each method, once both were measured.
    pub fn costs(&self) -> Option<Costs> {
        (self.looks > 0).then_some(self.mean)
    }

    /// Whether splicing was unavailable at the last attempt.
    pub fn is_unavailable(&self) -> bool {
        self.is_unavailable
    }

    /// Continues after `traffic`. The clocks are read at the start and end of windows only. Whether the choice or the costs
    /// may have changed.
    pub fn advance(&mut self, traffic: Traffic, clocks: impl FnOnce() -> Clocks) -> bool {
        if traffic.bulk < self.next {
            return false;
        }
        match self.state {
            State::Waiting => {
                self.window = 0;
                self.samples.iter_mut().for_each(Vec::clear);
                self.start_window(traffic.bulk);
                false
            }
            State::WarmingUp => {
                self.state = State::Measuring(traffic, clocks());
                self.next = traffic.bulk + WINDOW;
                false
            }
            State::Measuring(from, since) => {
                self.end_window((from, traffic), (since, clocks()));
                true
            }
        }
    }

    /// Splicing is unavailable: the kernel refuses pipes or splice(2).
    pub fn unavailable(&mut self, traffic: Traffic) {
        self.is_unavailable = true;
        self.chosen = Via::Copy;
        self.tried = 0;
        self.wait(traffic.bulk, RETRY);
    }

    fn end_window(&mut self, (from, to): (Traffic, Traffic), (since, until): (Clocks, Clocks)) {
        let bytes = to.bytes.saturating_sub(from.bytes).max(1) as f64;
        let cpu = until.cpu.saturating_sub(since.cpu);
        let time = until.time.saturating_sub(since.time);
        let messages = to.messages.saturating_sub(from.messages) * MESSAGE;
        if cpu == 0 || time > MAX_TIME || messages > cpu / 2 {
            return self.pause(to.bulk);
        }
        self.is_unavailable &= self.method == Via::Copy;
        let cost = Cost {
            cpu: cpu as f64 / bytes,
            time: time as f64 / bytes,
        };
        self.samples[usize::from(self.method == Via::Pipe)].push(cost);
        self.window += 1;
        if self.window < WINDOWS.len() {
            return self.start_window(to.bulk);
        }
        self.switch(self.chosen, to.bulk);
        self.learn();
        match self.looks < FIRST_LOOKS {
            true => self.wait(to.bulk, 0),
            false => self.pause(to.bulk),
        }
    }

    /// Starts the next window.
    fn start_window(&mut self, bulk: u64) {
        let method = WINDOWS.get(self.window).copied().unwrap_or(self.chosen);
        self.switch(method, bulk);
        self.state = State::WarmingUp;
        self.next = bulk + WARM_UP;
    }

    /// Ends the look, and starts the pause that its share of the bytes requires.
    fn pause(&mut self, bulk: u64) {
        self.switch(self.chosen, bulk);
        let pause = std::mem::take(&mut self.tried) * SHARE;
        self.wait(bulk, pause);
    }

    /// Starts the next look after so many bytes.
    fn wait(&mut self, bulk: u64, pause: u64) {
        self.switch(self.chosen, bulk);
        self.state = State::Waiting;
        self.next = bulk + pause;
    }

    fn switch(&mut self, method: Via, bulk: u64) {
        if self.method != self.chosen {
            self.tried += bulk.saturating_sub(self.changed);
        }
        self.method = method;
        self.changed = bulk;
    }

    /// Adds the look to the means and chooses.
    fn learn(&mut self) {
        let weight = (1.0 / f64::from(self.looks + 1)).max(WEIGHT);
        self.looks = self.looks.saturating_add(1);
        let [copy, splice] = &mut self.samples;
        self.mean.copy.add(Cost::median(copy), weight);
        self.mean.splice.add(Cost::median(splice), weight);
        let Costs { copy, splice } = self.mean;
        let is_busy = copy.is_busy() || splice.is_busy();
        let (copy, splice) = (copy.product(is_busy), splice.product(is_busy));
        self.chosen = match self.chosen {
            Via::Copy if splice < copy * MARGIN => Via::Pipe,
            Via::Pipe if copy < splice * MARGIN => Via::Copy,
            chosen => chosen,
        };
    }
}

impl Cost {
    /// The medians of both costs.
    fn median(samples: &mut [Self]) -> Self {
        let mut middle = |of: fn(&Self) -> f64| {
            samples.sort_by(|one, other| of(one).total_cmp(&of(other)));
            let half = samples.len() / 2;
            let both = samples.get(half.saturating_sub(1)..=half);
            both.map_or(0.0, |both| both.iter().map(of).sum::<f64>() / 2.0)
        };
        Self {
            cpu: middle(|cost| cost.cpu),
            time: middle(|cost| cost.time),
        }
    }

    /// Moves the mean towards a look.
    fn add(&mut self, look: Self, weight: f64) {
        let moved = |mean: f64, look: f64| match weight < 1.0 {
            true => mean + weight * (look.clamp(mean / OUTLIER, mean * OUTLIER) - mean),
            false => look,
        };
        self.cpu = moved(self.cpu, look.cpu);
        self.time = moved(self.time, look.time);
    }

    fn is_busy(&self) -> bool {
        self.cpu >= BUSY * self.time
    }

    fn product(&self, is_busy: bool) -> f64 {
        match is_busy {
            true => self.cpu * self.time,
            false => self.cpu * self.cpu,
        }
    }
}

#[cfg(test)]
mod tests;
