//! The result of `bench doctor`: one line per check, and below it the cost of a shortfall and the command that lifts it.

use std::io::{self, Write};

use super::layout::{INDENT, WIDTH, sentence};
use crate::doctor::{Check, State};
use crate::report::model::DoctorReport;

/// Column of the finding.
const FOUND: usize = INDENT + 33;

/// Writes all checks, their count by state, and whether runs on this machine can be compared.
///
/// # Errors
/// Those of `out`.
pub fn doctor(report: &DoctorReport, out: &mut impl Write) -> io::Result<()> {
    let host = &report.meta.host;
    let machine = format!("Linux {}, {}", host.kernel, host.cpu);
    sentence(out, "", &machine)?;
    for area in report.checks.chunk_by(|one, next| one.area == next.area) {
        if let Some(first) = area.first() {
            writeln!(out, "\n{}", first.area)?;
        }
        for check in area {
            line(check, out)?;
        }
    }
    let count = |state| {
        report
            .checks
            .iter()
            .filter(|check| check.state == state)
            .count()
    };
    let parts = [State::Ok, State::Limited, State::Missing].map(|state| {
        let count = count(state);
        format!("{count} {}", state.name())
    });
    writeln!(out, "\n{}", parts.join(", "))?;
    match report.comparing.fit {
        true => writeln!(out, "fit for comparing"),
        false => {
            let reasons = report.comparing.reasons.join("; ");
            sentence(out, "", &format!("not fit for comparing: {reasons}"))
        }
    }
}

fn line(check: &Check, out: &mut impl Write) -> io::Result<()> {
    let name = format!("{:<INDENT$}{}", check.state.name(), check.name);
    // A long finding in a narrow column is hard to read.
    if check.found.chars().count() <= 2 * (WIDTH - FOUND) {
        sentence(out, &format!("{name:<FOUND$}"), &check.found)?;
    } else {
        writeln!(out, "{name}")?;
        sentence(out, &" ".repeat(INDENT), &check.found)?;
    }
    let label = |word: &str| format!("{:INDENT$}{word:<7}", "");
    if let Some(costs) = &check.costs {
        sentence(out, &label("costs:"), costs)?;
    }
    if let Some(command) = &check.lifts_with {
        shell(out, &label("lift:"), command)?;
    }
    Ok(())
}

/// As [`sentence`], with a backslash at each line break, so that a shell reads one line.
fn shell(out: &mut impl Write, label: &str, command: &str) -> io::Result<()> {
    const BREAK: &str = " \\";
    let room = WIDTH - label.chars().count() - BREAK.len();
    let mut lines: Vec<String> = Vec::new();
    for word in command.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let last = lines.pop().unwrap_or_default();
    let mut margin = label.to_owned();
    for line in lines {
        writeln!(out, "{margin}{line}{BREAK}")?;
        margin = " ".repeat(label.chars().count());
    }
    writeln!(out, "{margin}{last}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor;
    use crate::doctor::fitness::fitness;
    use crate::report::sample;

    fn text(checks: Vec<Check>) -> String {
        let meta = sample::udp::record(Vec::new()).meta;
        let report = DoctorReport {
            meta,
            comparing: fitness(&checks),
            checks,
        };
        let mut out = Vec::new();
        doctor(&report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn shortfall() -> Check {
        Check {
            area: "machine",
            name: "CPU governor",
            state: State::Limited,
            found: "powersave".to_owned(),
            costs: Some("runs vary".to_owned()),
            lifts_with: Some(
                "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
                    .to_owned(),
            ),
            unfit: Some("the CPU frequency depends on the load".to_owned()),
        }
    }

    #[test]
    fn shortfall_has_its_cost_and_a_command_for_a_shell() {
        let expected = "
machine
limited    CPU governor                     powersave
           costs: runs vary
           lift:  echo performance | sudo tee \\
                  /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor

0 ok, 1 limited, 0 missing
not fit for comparing: the CPU frequency depends on the load
";
        let text = text(vec![shortfall()]);
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn last_line_states_that_the_machine_is_fit() {
        let check = Check {
            unfit: None,
            ..shortfall()
        };
        let text = text(vec![check]);
        assert!(text.ends_with(" missing\nfit for comparing\n"), "{text}");
    }

    #[test]
    fn long_finding_is_below_its_name() {
        let check = Check {
            state: State::Missing,
            found: "word ".repeat(30).trim().to_owned(),
            ..shortfall()
        };
        let text = text(vec![check]);
        assert!(
            text.contains("\nmissing    CPU governor\n           word word"),
            "{text}"
        );
    }

    #[test]
    fn lines_of_this_machine_fit() {
        for line in text(doctor::checks(1 << 30)).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
