//! The result of a rank, until the collector of the fleet has saved it merged. A rank whose collector is lost saves its own result.

use std::time::Instant;

use serde::Serialize;

use super::{GRACE, TICK};
use crate::cli::error::CliError;
use crate::udp::client::Cancel;
use crate::udp::fleet::member::Member;

/// Sends the result of run number `run` to the collector, and waits until it is saved there. `Some` is the reason why it is not.
///
/// # Errors
/// The result cannot be written as JSON.
pub(in crate::cli) fn hand_over(
    member: &Member,
    run: u32,
    report: &impl Serialize,
    cancel: &Cancel,
) -> Result<Option<String>, CliError> {
    let text = serde_json::to_string(report).map_err(CliError::runtime)?;
    let saved = match member.send_result(run, &text) {
        Ok(()) => await_saved(member, run, cancel),
        Err(error) => Err(error.to_string()),
    };
    Ok(saved.err())
}

/// Reports to the other ranks that the collector, which is this rank, has saved a run.
pub(in crate::cli) fn confirm(member: &Member, run: u32, cancel: &Cancel) {
    if member.kept().confirms && member.saved(run).is_ok() {
        // The other ranks have the message once this one has it.
        let _ = await_saved(member, run, cancel);
    }
}

/// Waits until the collector has saved a run.
///
/// # Errors
/// Why it never will.
fn await_saved(member: &Member, run: u32, cancel: &Cancel) -> Result<(), String> {
    let mut cancelled: Option<Instant> = None;
    let mut ended = None;
    loop {
        let kept = member.kept();
        if !kept.confirms || kept.saved >= Some(run) {
            return Ok(());
        }
        if let Some(reason) = kept.lost {
            return Err(format!("the rank that collects the results {reason}"));
        }
        if let Some(error) = ended {
            return Err(error);
        }
        ended = member
            .reply_within(TICK)
            .err()
            .map(|error| error.to_string());
        // The collector waits for other ranks this long.
        let since = cancel
            .is_cancelled()
            .then(|| *cancelled.get_or_insert_with(Instant::now));
        if since.is_some_and(|since| since.elapsed() > 2 * GRACE) {
            return Err("the rank that collects the results was interrupted".to_owned());
        }
    }
}

/// Why the ranks are not merged, and what to do with the result of this one.
pub(in crate::cli) fn sentence(
    folder: Option<String>,
    reason: &str,
    incomplete: Option<String>,
) -> String {
    let own = match folder {
        Some(folder) => format!(
            "the result of this rank is in {folder}: put it together with those of the others by `bench merge`"
        ),
        None => "--no-save kept this rank from saving its own result".to_owned(),
    };
    let incomplete = incomplete.map_or(String::new(), |reason| format!(" ({reason})"));
    format!("the ranks are not merged, as {reason}; {own}{incomplete}")
}
