//! The processor, its clock and its timers: what makes a measurement vary that the network has no part in.

use std::io;
use std::thread;
use std::time::Duration;

use super::{Check, State};
use crate::sys::clock::monotonic_ns;
use crate::sys::{affinity, host, timer};
use crate::units::{grouped, short_ns};

const AREA: &str = "machine";

/// A governor that does not let the frequency follow the load.
const STEADY: &str = "performance";

/// The clock that a stamp can be read from without the kernel.
const TSC: &str = "tsc";

/// Clocks that are read in user space, by the vDSO.
const FAST: [&str; 4] = [
    TSC,
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];

/// Does all that concerns the machine.
pub fn checks() -> Vec<Check> {
    let cpus = affinity::allowed().unwrap_or_default();
    vec![
        allowed(cpus.len(), host::cpus_present().as_deref()),
        governor(&host::governors(&cpus)),
        timer_slack(),
        clock(
            &host::clock_source().unwrap_or_default(),
            &host::clock_sources(),
            stamp_ns(),
        ),
        hypervisor(host::is_virtual()),
    ]
}

fn allowed(cpus: usize, present: Option<&str>) -> Check {
    let name = "CPUs allowed";
    if cpus > 1 {
        return Check::ok(AREA, name, cpus.to_string());
    }
    let check = Check::ok(AREA, name, "1").short(
        State::Limited,
        "sender and receiver take turns on one CPU, and a paced sender cannot spin",
    );
    match present {
        None | Some("0") => check,
        Some(all) => check.lifted_by(format!("sudo taskset -pc {all} $$")),
    }
}

fn governor(names: &[String]) -> Check {
    let name = "CPU governor";
    if names.is_empty() {
        return Check::ok(
            AREA,
            name,
            "none: the frequency is not this system's to set",
        );
    }
    let check = Check::ok(AREA, name, names.join(", "));
    if names.iter().all(|name| name == STEADY) {
        return check;
    }
    check
        .short(
            State::Limited,
            "the frequency follows the load: short and paced runs are slower and vary more",
        )
        .lifted_by(format!(
            "echo {STEADY} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        ))
}

/// Lowered on a thread of its own, as a paced sender does, and read back; and what sleeps are like then.
fn timer_slack() -> Check {
    let name = "timer slack (PR_SET_TIMERSLACK)";
    let costs =
        "sleeps end late by up to the slack: a paced sender is that much behind its schedule";
    let tried = thread::Builder::new().spawn(|| {
        let usual = timer::timer_slack()?;
        timer::tighten_timer_slack()?;
        Ok((usual, timer::timer_slack()?, oversleep_ns()))
    });
    let outcome = tried.and_then(|thread| {
        thread
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    });
    match outcome {
        Ok((usual, now, late)) => {
            let check = Check::ok(
                AREA,
                name,
                format!(
                    "{} ns, lowered to {now} ns; then sleeps end {} late",
                    grouped(usual),
                    short_ns(late as f64)
                ),
            );
            match now {
                1 => check,
                _ => check.short(State::Limited, costs),
            }
        }
        Err(error) => Check::ok(AREA, name, error.to_string()).short(State::Missing, costs),
    }
}

/// How late the calling thread's sleeps end, in ns: the median of several.
fn oversleep_ns() -> u64 {
    const SLEEP: Duration = Duration::from_micros(200);
    let mut late: Vec<u64> = (0..15)
        .map(|_| {
            let began = monotonic_ns();
            thread::sleep(SLEEP);
            let due = began + SLEEP.as_nanos() as u64;
            monotonic_ns().saturating_sub(due)
        })
        .collect();
    late.sort_unstable();
    late.get(late.len() / 2).copied().unwrap_or(0)
}

fn clock(source: &str, others: &[String], stamp: f64) -> Check {
    let name = "clock source";
    let found = match source {
        "" => format!("unknown, {} a stamp", short_ns(stamp)),
        source => format!("{source}, {} a stamp", short_ns(stamp)),
    };
    let check = Check::ok(AREA, name, found);
    let costs = match source {
        TSC | "" => return check,
        // Elsewhere than on x86 there is no other, and it is fast.
        source if FAST.contains(&source) && !others.iter().any(|other| other == TSC) => {
            return check;
        }
        source if FAST.contains(&source) => {
            "each datagram's stamp asks the kernel's clock, not the CPU's counter"
        }
        _ => {
            "each datagram's stamp is a system call, which slows the sender and adds to the latency"
        }
    };
    let check = check.short(State::Limited, costs);
    match others.iter().any(|other| other == TSC) {
        true => check.lifted_by(format!(
            "echo {TSC} | sudo tee /sys/bus/clocksource/devices/clocksource0/current_clocksource"
        )),
        false => check,
    }
}

/// What reading the clock takes, in ns, the best of several times.
fn stamp_ns() -> f64 {
    const READINGS: u32 = 1_000;
    let once = || {
        let began = monotonic_ns();
        for _ in 0..READINGS {
            std::hint::black_box(monotonic_ns());
        }
        monotonic_ns() - began
    };
    let best = (0..5).map(|_| once()).min().unwrap_or(0);
    best as f64 / f64::from(READINGS)
}

fn hypervisor(present: bool) -> Check {
    let name = "hypervisor";
    match present {
        false => Check::ok(AREA, name, "none"),
        true => Check::ok(AREA, name, "this is a virtual machine").short(
            State::Limited,
            "the host can take its CPUs away at any time, and wake-ups go through it: compare only runs made in turn, and trust the high percentiles less",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_cpus_are_offered_only_where_there_are_more() {
        let of = |cpus, present| allowed(cpus, present).lifts_with;
        assert_eq!(of(2, Some("0-3")), None);
        assert_eq!(of(1, Some("0")), None);
        assert_eq!(of(1, None), None);
        assert_eq!(of(1, Some("0-3")).unwrap(), "sudo taskset -pc 0-3 $$");
    }

    #[test]
    fn only_a_governor_that_follows_the_load_is_a_shortfall() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            governor(&names).state
        };
        assert_eq!(of(&[]), State::Ok);
        assert_eq!(of(&["performance"]), State::Ok);
        assert_eq!(of(&["performance", "schedutil"]), State::Limited);
        assert_eq!(of(&["powersave"]), State::Limited);
    }

    #[test]
    fn a_clock_is_lifted_only_where_there_is_a_better_one() {
        let of = |source: &str, others: &[&str]| {
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            let check = clock(source, &others, 20.0);
            (check.state, check.lifts_with.is_some())
        };
        assert_eq!(of("tsc", &["tsc", "hpet"]), (State::Ok, false));
        assert_eq!(of("kvm-clock", &["kvm-clock"]), (State::Ok, false));
        assert_eq!(
            of("kvm-clock", &["tsc", "kvm-clock"]),
            (State::Limited, true)
        );
        assert_eq!(of("hpet", &["hpet", "acpi_pm"]), (State::Limited, false));
        assert_eq!(of("hpet", &["tsc", "hpet"]), (State::Limited, true));
        assert_eq!(
            of("arch_sys_counter", &["arch_sys_counter"]),
            (State::Ok, false)
        );
        assert_eq!(of("", &[]), (State::Ok, false));
    }

    #[test]
    fn reading_the_clock_takes_some_time() {
        let stamp = stamp_ns();
        assert!(stamp > 0.0 && stamp < 100_000.0, "{stamp}");
    }
}
