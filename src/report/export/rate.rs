//! The headline rate of UDP runs: goodput, or the rate of round trips, which have no goodput.

use crate::report::model::udp::{ComparedSetting, Ratios};
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;
use crate::udp::result::Run;

/// The kind of rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    Goodput,
    RoundTrips,
}

impl Rate {
    pub(super) fn of_run(run: &Run) -> Self {
        match run.round_trip {
            Some(_) => Self::RoundTrips,
            None => Self::Goodput,
        }
    }

    /// The rate of `runs`: round trips if all of them are.
    pub(super) fn of_runs(runs: &[Run]) -> Self {
        Self::common(runs.iter().map(Self::of_run))
    }

    pub(super) fn of_setting(setting: &ComparedSetting) -> Self {
        match setting.mode.as_str() {
            "round-trip" => Self::RoundTrips,
            _ => Self::Goodput,
        }
    }

    /// The rate of `settings`: round trips if all of them are.
    pub(super) fn of_settings(settings: &[ComparedSetting]) -> Self {
        Self::common(settings.iter().map(Self::of_setting))
    }

    fn common(rates: impl Iterator<Item = Self>) -> Self {
        let equal = |one, other| if one == other { one } else { Self::Goodput };
        rates.reduce(equal).unwrap_or(Self::Goodput)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Goodput => "goodput",
            Self::RoundTrips => "round trips",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Goodput => "KB/s",
            Self::RoundTrips => "round trips/s",
        }
    }

    /// The unit above a narrow column.
    pub(super) fn short_unit(self) -> &'static str {
        match self {
            Self::Goodput => "KB/s",
            Self::RoundTrips => "trips/s",
        }
    }

    pub(super) fn value(self, run: &Run) -> Option<f64> {
        match self {
            Self::Goodput => run.kb_per_s,
            Self::RoundTrips => run.packets_per_s,
        }
    }

    pub(super) fn spread(self, setting: &ComparedSetting) -> Option<Spread> {
        match self {
            Self::Goodput => setting.kb_per_s,
            Self::RoundTrips => setting.packets_per_s,
        }
    }

    pub(super) fn ratio(self, ratios: Ratios) -> Option<Ratio> {
        match self {
            Self::Goodput => ratios.kb_per_s,
            Self::RoundTrips => ratios.packets_per_s,
        }
    }
}
