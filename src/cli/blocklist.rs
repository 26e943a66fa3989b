//! `bench blocklist check`: which entry of the lists decides on a destination.

use std::io::{self, Write};

use super::args::Check;
use super::error::CliError;
use crate::blocklist::policy::{Policy, Sources, Verdict};
use crate::blocklist::target::Target;

pub(super) fn check(args: &Check) -> Result<(), CliError> {
    let destinations = args.destinations.iter().map(|text| {
        let target: Target = text.parse().map_err(CliError::usage)?;
        Ok((text, target))
    });
    let destinations = destinations.collect::<Result<Vec<_>, CliError>>()?;
    let policy = Policy::load(&Sources {
        block: args.files.clone(),
        block_subdomains: args.blocklist_subdomains.clone(),
        allow: args.allow.clone(),
        except: args.except.clone(),
        deny_private: args.deny_private,
        skip_bad_lines: args.skip_bad_lines,
        // The check reports empty lists but accepts them.
        allow_empty: true,
    });
    // One line a problem, each with the program's prefix.
    let policy =
        policy.map_err(|error| CliError::Runtime(error.to_string().replace('\n', "\nbench: ")))?;
    for file in policy.files() {
        for warning in file.warnings() {
            // A closed stderr is ignored.
            let _ = writeln!(io::stderr(), "bench: {warning}");
        }
    }
    let mut blocked = 0;
    let mut out = io::stdout().lock();
    for (text, target) in &destinations {
        match policy.check(target) {
            Verdict::Allowed => writeln!(out, "{text} allowed")?,
            Verdict::Excepted(by) => writeln!(out, "{text} allowed, excepted by {by}")?,
            Verdict::Blocked(reason) => {
                blocked += 1;
                writeln!(out, "{text} blocked by {reason}")?;
            }
        }
    }
    out.flush()?;
    match (blocked, destinations.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(CliError::CheckFailed(
            "the destination is blocked".to_owned(),
        )),
        (blocked, all) => Err(CliError::CheckFailed(format!(
            "{blocked} of {all} destinations are blocked"
        ))),
    }
}
