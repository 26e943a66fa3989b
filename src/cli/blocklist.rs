//! `bench blocklist check`: what a list blocks, without a proxy.

use std::io::{self, Write};

use super::args::Check;
use super::failure::Failure;
use crate::blocklist::policy::{Policy, Sources, Verdict};
use crate::blocklist::target::Target;

pub(super) fn check(args: &Check) -> Result<(), Failure> {
    let destinations = args.destinations.iter().map(|text| {
        let target: Target = text.parse().map_err(Failure::usage)?;
        Ok((text, target))
    });
    let destinations = destinations.collect::<Result<Vec<_>, Failure>>()?;
    let policy = Policy::load(&Sources {
        block: args.files.clone(),
        block_subdomains: args.blocklist_subdomains.clone(),
        allow: args.allow.clone(),
        except: args.except.clone(),
        deny_private: args.deny_private,
        skip_bad_lines: args.skip_bad_lines,
        // Nothing is put in force here: an empty list is only said to be one.
        allow_empty: true,
    });
    // Each problem is a line, and each line is ours.
    let policy =
        policy.map_err(|error| Failure::Undone(error.to_string().replace('\n', "\nbench: ")))?;
    for file in policy.files() {
        for warning in file.warnings() {
            // stderr may be closed, which is no reason to stop.
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
        (1, 1) => Err(Failure::Gate("the destination is blocked".to_owned())),
        (blocked, all) => Err(Failure::Gate(format!(
            "{blocked} of {all} destinations are blocked"
        ))),
    }
}
