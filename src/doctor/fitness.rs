//! Whether runs on this machine can be compared with each other.

use serde::Serialize;

use super::Check;

/// The verdict on a machine. Programs rely on the keys of its JSON: add keys, never rename them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fitness {
    /// Whether no check found an obstacle.
    pub fit: bool,
    /// The obstacles, in the order of the checks.
    pub reasons: Vec<String>,
}

/// Collects the obstacles that `checks` found.
pub fn fitness(checks: &[Check]) -> Fitness {
    let reasons: Vec<_> = checks
        .iter()
        .filter_map(|check| check.unfit.clone())
        .collect();
    Fitness {
        fit: reasons.is_empty(),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn shortfall() -> Check {
        Check::ok("machine", "CPU governor", "powersave").shortfall(State::Limited, "runs vary")
    }

    #[test]
    fn machine_without_an_obstacle_is_fit() {
        let fit = Fitness {
            fit: true,
            reasons: Vec::new(),
        };
        assert_eq!(fitness(&[]), fit);
        assert_eq!(fitness(&[Check::ok("udp", "GSO", "64"), shortfall()]), fit);
    }

    #[test]
    fn each_obstacle_is_a_reason() {
        let checks = [
            shortfall().unfit("first"),
            Check::ok("udp", "GSO", "64"),
            shortfall().unfit("second"),
        ];
        let unfit = fitness(&checks);
        assert!(!unfit.fit);
        assert_eq!(unfit.reasons, ["first", "second"]);
    }
}
