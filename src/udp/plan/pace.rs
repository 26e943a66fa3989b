//! The settings of a pace: its range, and the way a sender waits.

/// Slowest pace, in datagrams per second: one in about a quarter of an hour.
pub const MIN_PPS: f64 = 0.001;

/// Fastest pace, in datagrams per second.
pub const MAX_PPS: f64 = 1e9;

/// Whether a paced sender spins before a deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpinChoice {
    /// Spin unless it makes the sender late.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl SpinChoice {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}
