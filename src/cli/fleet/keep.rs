//! The result of a rank, until the collector of the fleet has saved it merged. A rank whose collector is lost saves its own result.

use std::time::Instant;

use serde::Serialize;

use super::{GRACE, TICK};
use crate::cli::error::CliError;
use crate::udp::client::Cancel;
use crate::udp::fleet::member::{FleetError, Member};

/// Why the result of a rank is not in a merged record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Unmerged {
    /// The collector is lost: each rank saves its own result.
    ByNone(String),
    /// The collector merges the results of the other ranks.
    ByOthers(String),
    /// The connection to the fleet is lost, so that the collector may merge the results of the other ranks.
    Unknown(String),
}

impl From<FleetError> for Unmerged {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::LeftBehind(..) => Self::ByOthers(error.to_string()),
            error => Self::Unknown(error.to_string()),
        }
    }
}

impl Unmerged {
    /// Why the ranks are not merged, and what to do with the result of this one, which is in `folder`.
    pub(in crate::cli) fn sentence(
        &self,
        folder: Option<String>,
        incomplete: Option<String>,
    ) -> String {
        let (reason, advice) = match self {
            Self::ByNone(reason) => (
                reason,
                ": put it together with those of the others by `bench merge`",
            ),
            Self::ByOthers(reason) => (
                reason,
                " and cannot be added to the merged record, which lacks this rank",
            ),
            Self::Unknown(reason) => (
                reason,
                ": put it together with those of the others by `bench merge`, unless a rank has a merged record, which lacks this rank",
            ),
        };
        let effect = match self {
            Self::ByOthers(_) => "this rank is not merged with the others",
            Self::ByNone(_) | Self::Unknown(_) => "the ranks are not merged",
        };
        let own = match folder {
            Some(folder) => format!("the result of this rank is in {folder}{advice}"),
            None => "--no-save kept this rank from saving its own result".to_owned(),
        };
        let incomplete = incomplete.map_or(String::new(), |reason| format!(" ({reason})"));
        format!("{effect}, as {reason}; {own}{incomplete}")
    }
}

/// Sends the result of run number `run` to the collector, and waits until it is saved there. `Some` is the reason why it is not.
///
/// # Errors
/// The result cannot be written as JSON.
pub(in crate::cli) fn hand_over(
    member: &Member,
    run: u32,
    report: &impl Serialize,
    cancel: &Cancel,
) -> Result<Option<Unmerged>, CliError> {
    let text = serde_json::to_string(report).map_err(CliError::runtime)?;
    // The server refuses a rank that is lost before it closes the connection, so that its message has the reason.
    let sent = member.send_result(run, &text);
    match (sent, await_saved(member, run, cancel)) {
        (_, Err(reason)) => Ok(Some(reason)),
        (Err(error), Ok(())) if member.kept().saved < Some(run) => Ok(Some(error.into())),
        _ => Ok(None),
    }
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
fn await_saved(member: &Member, run: u32, cancel: &Cancel) -> Result<(), Unmerged> {
    let mut cancelled: Option<Instant> = None;
    let mut ended = None;
    loop {
        let kept = member.kept();
        if !kept.confirms || kept.saved >= Some(run) {
            return Ok(());
        }
        if let Some(reason) = kept.lost {
            let collector = "the rank that collects the results";
            return Err(Unmerged::ByNone(format!("{collector} {reason}")));
        }
        if let Some(error) = ended {
            return Err(Unmerged::from(error));
        }
        ended = member.reply_within(TICK).err();
        // The collector waits for other ranks this long.
        let since = cancel
            .is_cancelled()
            .then(|| *cancelled.get_or_insert_with(Instant::now));
        if since.is_some_and(|since| since.elapsed() > 2 * GRACE) {
            let reason = "the rank that collects the results was interrupted";
            return Err(Unmerged::Unknown(reason.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_is_advised_only_where_the_ranks_have_their_own_records() {
        let server = ([127, 0, 0, 1], 5_211).into();
        let behind = FleetError::LeftBehind(server, "the fleet went on".to_owned());
        let lost = FleetError::Lost(server, "it was closed".to_owned());
        let none = Unmerged::ByNone("rank 0 was lost".to_owned());
        for (reason, words, advises, hedges) in [
            (
                none,
                "the ranks are not merged, as rank 0 was lost",
                true,
                false,
            ),
            (
                behind.into(),
                "this rank is not merged with the others",
                false,
                false,
            ),
            (
                lost.into(),
                "the ranks are not merged, as the server",
                true,
                true,
            ),
        ] {
            let sentence = reason.sentence(Some("here".to_owned()), None);
            assert!(sentence.starts_with(words), "{sentence}");
            assert_eq!(sentence.contains("`bench merge`"), advises, "{sentence}");
            assert_eq!(
                sentence.contains("unless a rank has a merged record"),
                hedges
            );
            assert!(sentence.contains("is in here"));
            let unsaved = reason.sentence(None, None);
            assert!(!unsaved.contains("`bench merge`") && unsaved.contains("--no-save"));
        }
    }
}
