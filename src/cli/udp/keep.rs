//! The result of a rank, until the collector of the fleet has saved it merged. A rank whose collector is lost saves its own result.

use std::time::Instant;

use super::gather::{GRACE, TICK};
use super::lost;
use super::output::Output;
use super::ready::Ready;
use crate::cli::args::Udp;
use crate::cli::error::CliError;
use crate::udp::client::Cancel;
use crate::udp::fleet::member::Member;
use crate::udp::result::Measured;

/// Waits until the collector has saved a run.
///
/// # Errors
/// Why it never will.
pub(in crate::cli) fn await_saved(
    member: &Member,
    run: u32,
    cancel: &Cancel,
) -> Result<(), String> {
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

/// Saves the result of this rank alone. Returns the outcome of the command, which is not complete.
pub(super) fn save(args: &Udp, one: &Ready, own: Vec<Measured>, reason: &str) -> CliError {
    let incomplete = own.iter().find_map(lost);
    let written = Output::of_rank(args).and_then(|mut output| {
        output.next(&one.planned.settings);
        for measured in own {
            output.add(measured)?;
        }
        let folder = output.folder();
        output.close(Ok(())).map(|()| folder)
    });
    match written {
        Err(error) => error,
        Ok(folder) => one.runtime(sentence(folder, reason, incomplete)),
    }
}

/// Why the ranks are not merged, and what to do with the result of this one.
pub(super) fn sentence(folder: Option<String>, reason: &str, incomplete: Option<String>) -> String {
    let own = match folder {
        Some(folder) => format!(
            "the result of this rank is in {folder}: put it together with those of the others by `bench merge`"
        ),
        None => "--no-save kept this rank from saving its own result".to_owned(),
    };
    let incomplete = incomplete.map_or(String::new(), |reason| format!(" ({reason})"));
    format!("the ranks are not merged, as {reason}; {own}{incomplete}")
}
