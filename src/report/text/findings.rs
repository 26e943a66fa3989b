//! What `bench doctor` found: a line a check, and below it what a shortfall costs and what lifts it.

use std::io::{self, Write};

use super::layout::{INDENT, WIDTH, sentence};
use crate::doctor::{Check, State};
use crate::report::findings::Findings;

/// Where what was found begins.
const FOUND: usize = INDENT + 33;

/// Writes all of it.
///
/// # Errors
/// Those of `out`.
pub fn findings(findings: &Findings, out: &mut impl Write) -> io::Result<()> {
    let host = &findings.host;
    let machine = format!("Linux {}, {}", host.kernel, host.cpu);
    sentence(out, "", &machine)?;
    for area in findings.checks.chunk_by(|one, next| one.area == next.area) {
        if let Some(first) = area.first() {
            writeln!(out, "\n{}", first.area)?;
        }
        for check in area {
            one(check, out)?;
        }
    }
    let count = |state| {
        findings
            .checks
            .iter()
            .filter(|check| check.state == state)
            .count()
    };
    let parts = [State::Ok, State::Limited, State::Missing].map(|state| {
        let count = count(state);
        format!("{count} {}", state.name())
    });
    writeln!(out, "\n{}", parts.join(", "))
}

fn one(check: &Check, out: &mut impl Write) -> io::Result<()> {
    let name = format!("{:<INDENT$}{}", check.state.name(), check.name);
    // A reason in a narrow column would be hard to read.
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

/// As [`sentence`], with a backslash where a line is broken, so that a shell takes it for one.
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
    use crate::report::sample;

    fn told(checks: Vec<Check>) -> String {
        let record = sample::record(Vec::new());
        let all = Findings {
            schema: record.schema,
            kind: "doctor",
            wirebench: record.wirebench,
            started_at: record.started_at,
            command: record.command,
            host: record.host,
            checks,
        };
        let mut out = Vec::new();
        findings(&all, &mut out).unwrap();
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
        }
    }

    #[test]
    fn a_shortfall_is_told_with_its_price_and_a_command_that_a_shell_takes() {
        let expected = "
machine
limited    CPU governor                     powersave
           costs: runs vary
           lift:  echo performance | sudo tee \\
                  /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor

0 ok, 1 limited, 0 missing
";
        let told = told(vec![shortfall()]);
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn what_is_long_stands_below_its_name() {
        let check = Check {
            state: State::Missing,
            found: "word ".repeat(30).trim().to_owned(),
            ..shortfall()
        };
        let told = told(vec![check]);
        assert!(
            told.contains("\nmissing    CPU governor\n           word word"),
            "{told}"
        );
    }

    #[test]
    fn no_line_of_this_machine_is_too_long() {
        for line in told(doctor::checks(1 << 30)).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
