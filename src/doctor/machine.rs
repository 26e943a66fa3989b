//! CPUs, clock, timers and virtualisation: sources of variation outside the network.

use std::io;
use std::thread;
use std::time::Duration;

use super::{Check, State};
use crate::sys::clock::monotonic_ns;
use crate::sys::{affinity, machine, timer_slack};
use crate::units::{grouped, short_ns};

const AREA: &str = "machine";

/// Fewest CPUs for comparisons: the busy threads of `bench proxy`, which are origin, proxy and load generator. `bench udp`
/// uses two, and one is left for the rest of the system.
const ENOUGH: usize = 3;

/// The governor with a constant frequency.
const STEADY: &str = "performance";

/// The clock source that is read without the kernel.
const TSC: &str = "tsc";

/// Clock sources that the vDSO reads in user space.
const FAST: [&str; 4] = [
    TSC,
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];

/// Runs all checks of the machine.
pub fn checks() -> Vec<Check> {
    let cpus = affinity::allowed().unwrap_or_default();
    vec![
        allowed(cpus.len(), machine::cpus_present().as_deref()),
        governor(&machine::governors(&cpus)),
        timer_slack(),
        clock(
            &machine::clock_source().unwrap_or_default(),
            &machine::clock_sources(),
            stamp_ns(),
        ),
        hypervisor(machine::is_virtual()),
    ]
}

fn allowed(cpus: usize, present: Option<&str>) -> Check {
    let name = "CPUs allowed";
    let check = Check::ok(AREA, name, cpus.max(1).to_string());
    if cpus >= ENOUGH {
        return check;
    }
    if cpus > 1 {
        return check.unfit("2 CPUs for two or three busy threads");
    }
    let check = check
        .shortfall(
            State::Limited,
            "sender and receiver share one CPU, and a paced sender cannot spin",
        )
        .unfit("1 CPU for two or three busy threads");
    match present {
        None | Some("0") => check,
        Some(all) => check.remedy(format!("sudo taskset -pc {all} $$")),
    }
}

fn governor(names: &[String]) -> Check {
    let name = "CPU governor";
    if names.is_empty() {
        return Check::ok(
            AREA,
            name,
            "none: this system does not control the frequency",
        );
    }
    let check = Check::ok(AREA, name, names.join(", "));
    if names.iter().all(|name| name == STEADY) {
        return check;
    }
    check
        .shortfall(
            State::Limited,
            "the frequency depends on the load: short and paced runs are slower and vary more",
        )
        .remedy(format!(
            "echo {STEADY} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        ))
        .unfit("the CPU frequency depends on the load")
}

/// Lowers the timer slack on a separate thread, as a paced sender does, reads it back, and measures late sleeps.
fn timer_slack() -> Check {
    let name = "timer slack (PR_SET_TIMERSLACK)";
    let costs = "sleeps end late by up to the slack, which delays paced senders";
    let tried = thread::Builder::new().spawn(|| {
        let usual = timer_slack::get()?;
        timer_slack::tighten()?;
        Ok((usual, timer_slack::get()?, oversleep_ns()))
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
                    "{} ns, lowered to {now} ns; sleeps then end {} late",
                    grouped(usual),
                    short_ns(late as f64)
                ),
            );
            match now {
                1 => check,
                _ => check.shortfall(State::Limited, costs),
            }
        }
        Err(error) => Check::ok(AREA, name, error.to_string()).shortfall(State::Missing, costs),
    }
}

/// Median lateness of the calling thread's sleeps, in ns.
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
        "" => format!("unknown, {} per reading", short_ns(stamp)),
        source => format!("{source}, {} per reading", short_ns(stamp)),
    };
    let check = Check::ok(AREA, name, found);
    let costs = match source {
        TSC | "" => return check,
        // On other architectures there is no TSC, and this source is fast.
        source if FAST.contains(&source) && !others.iter().any(|other| other == TSC) => {
            return check;
        }
        source if FAST.contains(&source) => {
            "timestamps of datagrams use the vDSO clock instead of the CPU's counter"
        }
        _ => {
            "each timestamp of a datagram is a system call, which slows the sender and adds latency"
        }
    };
    let mut check = check.shortfall(State::Limited, costs);
    if !FAST.contains(&source) {
        check = check.unfit(format!("the clock source {source} is slow"));
    }
    match others.iter().any(|other| other == TSC) {
        true => check.remedy(format!(
            "echo {TSC} | sudo tee /sys/bus/clocksource/devices/clocksource0/current_clocksource"
        )),
        false => check,
    }
}

/// Best observed time of one clock reading, in ns.
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
        true => Check::ok(AREA, name, "virtual machine").shortfall(
            State::Limited,
            "the hypervisor can preempt CPUs at any time and adds latency to wake-ups: compare only interleaved runs, and treat high percentiles with caution",
        )
        .unfit("a virtual machine shares its CPUs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_for_more_cpus_needs_more_cpus() {
        let of = |cpus, present| allowed(cpus, present).lifts_with;
        assert_eq!(of(2, Some("0-3")), None);
        assert_eq!(of(1, Some("0")), None);
        assert_eq!(of(1, None), None);
        assert_eq!(of(1, Some("0-3")).unwrap(), "sudo taskset -pc 0-3 $$");
    }

    #[test]
    fn variable_frequency_governor_is_limited() {
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
    fn command_for_the_clock_needs_a_better_clock() {
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
    fn obstacles_to_comparing_are_named() {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            allowed(1, None).unfit.unwrap(),
            "1 CPU for two or three busy threads"
        );
        assert_eq!(
            allowed(2, None).unfit.unwrap(),
            "2 CPUs for two or three busy threads"
        );
        assert_eq!(allowed(3, None).unfit, None);
        assert_eq!(governor(&owned(&["performance"])).unfit, None);
        assert_eq!(
            governor(&owned(&["powersave"])).unfit.unwrap(),
            "the CPU frequency depends on the load"
        );
        let clock = |source| clock(source, &owned(&["tsc", "kvm-clock", "hpet"]), 20.0).unfit;
        assert_eq!(clock("tsc"), None);
        assert_eq!(clock("kvm-clock"), None);
        assert_eq!(clock("hpet").unwrap(), "the clock source hpet is slow");
        assert_eq!(hypervisor(false).unfit, None);
        assert_eq!(
            hypervisor(true).unfit.unwrap(),
            "a virtual machine shares its CPUs"
        );
    }

    #[test]
    fn reading_the_clock_takes_time() {
        let stamp = stamp_ns();
        assert!(stamp > 0.0 && stamp < 100_000.0, "{stamp}");
    }
}
