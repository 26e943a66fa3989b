//! io_uring: the ring, each of its setup flags, and each operation.

mod operations;

use super::{Check, State};
use crate::engine::UringSettings;
use crate::uring::Unavailable;
use crate::uring::setup::{FLAGS, explain, plain, retry_while_out_of_memory, with_flag};

const AREA: &str = "io_uring";

/// The check that all others of this area depend on.
const RING: &str = "a ring (io_uring_setup)";

/// Runs all checks of io_uring.
pub fn checks() -> Vec<Check> {
    let mut checks = match retry_while_out_of_memory(plain) {
        Ok(ring) => vec![Check::ok(
            AREA,
            RING,
            format!("{} entries granted", ring.params().sq_entries()),
        )],
        Err(error) => return without_ring(&explain(error, &UringSettings::default())),
    };
    checks.extend(FLAGS.iter().map(|flag| {
        let outcome = retry_while_out_of_memory(|| with_flag(flag)).map(|_| "works".to_owned());
        let costs = format!("{}; requires Linux {}", flag.costs, flag.since);
        Check::from_trial(AREA, flag.name, outcome, &costs)
    }));
    checks.extend(operations::checks());
    checks
}

/// All checks as missing, with the reason in the first.
fn without_ring(reason: &Unavailable) -> Vec<Check> {
    let mut first = Check::ok(AREA, RING, reason.to_string()).shortfall(
        State::Missing,
        "--engine uring is refused; mio is not affected",
    );
    first.lifts_with = reason.lifts_with();
    let flags = FLAGS.iter().map(|flag| flag.name);
    let rest = flags.chain(operations::names()).map(|name| Check {
        state: State::Missing,
        ..Check::ok(AREA, name, "no ring available")
    });
    [first].into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn check_names_do_not_depend_on_a_ring() {
        let reason = Unavailable::Other(io::ErrorKind::Unsupported.into());
        let names = |checks: Vec<Check>| checks.iter().map(|check| check.name).collect::<Vec<_>>();
        let with = checks();
        assert_eq!(names(with), names(without_ring(&reason)));
    }
}
