//! Probes for `bench doctor`: what kernel, user and machine support, and the cost of each shortfall.
//!
//! A probe never prints, changes no system setting and leaves nothing behind. [`checks`] runs all of them.

pub mod fitness;
pub mod limits;
pub mod machine;
pub mod udp;
pub mod uring;
pub mod zerocopy;

use std::io;

use serde::Serialize;

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything wirebench can use is available.
    Ok,
    /// Available with restrictions.
    Limited,
    /// Unavailable.
    Missing,
}

impl State {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// Result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The group: `udp`, `zero-copy`, `io_uring`, `limits` or `machine`.
    pub area: &'static str,
    /// The name, unique among all checks.
    pub name: &'static str,
    /// The outcome.
    pub state: State,
    /// The value in force, or the reason for its absence.
    pub found: String,
    /// The cost of the shortfall, in one sentence. `None` without a shortfall, or if another check states the cost.
    pub costs: Option<String>,
    /// A shell command that removes the shortfall, if one exists.
    pub lifts_with: Option<String>,
    /// Why runs on this machine cannot be compared, in a few words. `None` if this check found no obstacle.
    #[serde(skip)]
    pub unfit: Option<String>,
}

impl Check {
    /// A check without a shortfall.
    fn ok(area: &'static str, name: &'static str, found: impl Into<String>) -> Self {
        Self {
            area,
            name,
            state: State::Ok,
            found: found.into(),
            costs: None,
            lifts_with: None,
            unfit: None,
        }
    }

    /// A check of a trial that may fail.
    fn from_trial(
        area: &'static str,
        name: &'static str,
        outcome: io::Result<String>,
        costs: &str,
    ) -> Self {
        match outcome {
            Ok(found) => Self::ok(area, name, found),
            Err(error) => Self::ok(area, name, error.to_string()).shortfall(State::Missing, costs),
        }
    }

    fn shortfall(mut self, state: State, costs: impl Into<String>) -> Self {
        self.state = state;
        self.costs = Some(costs.into());
        self
    }

    fn remedy(mut self, command: impl Into<String>) -> Self {
        self.lifts_with = Some(command.into());
        self
    }

    fn unfit(mut self, reason: impl Into<String>) -> Self {
        self.unfit = Some(reason.into());
        self
    }
}

/// Runs all probes, in well under a second. `buffer` is the socket buffer size a run requests, in bytes.
pub fn checks(buffer: usize) -> Vec<Check> {
    let mut checks = udp::checks();
    checks.extend(zerocopy::checks());
    checks.extend(uring::checks());
    checks.extend(limits::checks(buffer));
    checks.extend(machine::checks());
    checks
}

/// Whether the mio engine can run, with or without GSO. Nothing else is required.
///
/// # Errors
/// The obstacle, in one sentence.
pub fn enough_for_mio(checks: &[Check]) -> Result<(), String> {
    match checks.iter().find(|check| check.name == udp::EVENT_LOOP) {
        Some(check) if check.state == State::Missing => Err(check.found.clone()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::monotonic_ns;

    #[test]
    fn checks_are_quick_unique_and_state_costs_of_shortfalls() {
        let began = monotonic_ns();
        let checks = checks(4 << 20);
        let took = monotonic_ns() - began;
        assert!(took < 5_000_000_000, "{took} ns");
        let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), checks.len());
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            if check.state == State::Ok {
                assert!(
                    check.costs.is_none() && check.lifts_with.is_none(),
                    "{check:?}"
                );
            }
        }
        assert_eq!(enough_for_mio(&checks), Ok(()));
    }
}
