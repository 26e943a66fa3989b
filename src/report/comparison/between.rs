//! Two saved records, setting by setting.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::group::{Comparable, Group, Row, groups};
use super::labels::labels;
use crate::report::record::{MOST_RUNS, Record};

/// What two records say of each other.
#[derive(Debug, Clone, Serialize)]
pub struct Between<C> {
    /// The one that the ratios are to.
    pub base: Source,
    /// The other.
    pub new: Source,
    /// What a reader must know before believing a difference. Sentences.
    pub notes: Vec<String>,
    /// Each setting that both have, twice: the base's runs, then the new ones.
    pub comparison: Vec<C>,
    /// Settings that only the base has.
    pub only_in_base: Vec<String>,
    /// Settings that only the other has.
    pub only_in_new: Vec<String>,
    /// What both are records of: `udp` or `proxy`.
    pub kind: String,
}

/// Where a record comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// As it was given.
    pub path: PathBuf,
    /// As in the record.
    pub started_at: String,
    /// As in the record.
    pub wirebench: String,
}

/// Why two records cannot be compared.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BetweenError {
    /// Nothing was measured.
    #[error("{} has no complete run; give one that has", .0.display())]
    NoRuns(PathBuf),
    /// No command of ours does so many.
    #[error("{} has {count} runs, more than the {MOST_RUNS} that bench does", path.display())]
    TooManyRuns {
        /// The file.
        path: PathBuf,
        /// Its runs.
        count: usize,
    },
    /// No setting is in both.
    #[error(
        "nothing can be compared: {} has {base}, {} has {new}; compare runs of the same options, or have one command try both, as `bench {kind} --engine mio,uring` does",
        base_path.display(), new_path.display()
    )]
    NothingInCommon {
        /// What both are records of.
        kind: String,
        /// The one file.
        base_path: PathBuf,
        /// Its settings.
        base: String,
        /// The other file.
        new_path: PathBuf,
        /// Its settings.
        new: String,
    },
}

/// Compares the settings that both records have. Each comes with its path.
///
/// # Errors
/// [`BetweenError`].
pub fn between<R: Comparable, C>(
    (base_path, base): (&Path, &Record<R, C>),
    (new_path, new): (&Path, &Record<R, C>),
) -> Result<Between<R::Row>, BetweenError> {
    let (before, after) = (usable(base_path, base)?, usable(new_path, new)?);
    let mut all: Vec<R::Settings> = Vec::new();
    for group in before.iter().chain(&after) {
        if !all.contains(&group.settings) {
            all.push(group.settings.clone());
        }
    }

    let mut comparison = Vec::new();
    let (mut only_in_base, mut only_in_new) = (Vec::new(), Vec::new());
    let mut as_much = true;
    for (label, settings) in labels(&all).into_iter().zip(&all) {
        let find =
            |groups: &[Group<'_, R>]| groups.iter().position(|group| group.settings == *settings);
        match (find(&before), find(&after)) {
            (Some(base), Some(new)) => {
                let (base, new) = (&before[base], &after[new]);
                let mut amounts = base.runs.iter().zip(&new.runs);
                as_much &= amounts.all(|(base, new)| base.is_as_much_as(new));
                comparison.extend(R::pair(names(&label), base, new));
            }
            (Some(_), None) => only_in_base.push(label),
            (None, _) => only_in_new.push(label),
        }
    }
    if comparison.is_empty() {
        return Err(BetweenError::NothingInCommon {
            kind: base.kind.clone(),
            base_path: base_path.to_owned(),
            base: only_in_base.join("; "),
            new_path: new_path.to_owned(),
            new: only_in_new.join("; "),
        });
    }
    let mut notes = doubts(base, new, as_much);
    for [base, new] in comparison.as_chunks().0 {
        notes.extend(R::Row::notes(new, base));
    }
    Ok(Between {
        notes,
        base: source(base_path, base),
        new: source(new_path, new),
        comparison,
        only_in_base,
        only_in_new,
        kind: base.kind.clone(),
    })
}

fn usable<'a, R: Comparable, C>(
    path: &Path,
    record: &'a Record<R, C>,
) -> Result<Vec<Group<'a, R>>, BetweenError> {
    if record.runs.len() > MOST_RUNS {
        return Err(BetweenError::TooManyRuns {
            path: path.to_owned(),
            count: record.runs.len(),
        });
    }
    if !record.runs.iter().any(Comparable::is_complete) {
        return Err(BetweenError::NoRuns(path.to_owned()));
    }
    Ok(groups(&record.runs))
}

/// What a setting is called in each record.
fn names(label: &str) -> [String; 2] {
    ["base", "new"].map(|side| match label {
        "" => side.to_owned(),
        label => format!("{label}, {side}"),
    })
}

fn source<R, C>(path: &Path, record: &Record<R, C>) -> Source {
    Source {
        path: path.to_owned(),
        started_at: record.started_at.clone(),
        wirebench: record.wirebench.clone(),
    }
}

/// What keeps runs of two commands apart.
fn doubts<R, C>(base: &Record<R, C>, new: &Record<R, C>, as_much: bool) -> Vec<String> {
    let mut notes = vec![
        "the runs of two commands did not take turns: what drifted between the two counts as a difference, and only runs within one command are free of that".to_owned(),
    ];
    let (one, other) = (&base.host, &new.host);
    let mut differ = |what: &str, one: &str, other: &str| {
        if one != other {
            notes.push(format!(
                "the hosts differ in their {what}: '{one}' and '{other}'"
            ));
        }
    };
    differ("kernel", &one.kernel, &other.kernel);
    differ("CPU", &one.cpu, &other.cpu);
    differ(
        "number of cores",
        &one.cores.to_string(),
        &other.cores.to_string(),
    );
    if !as_much {
        notes.push("they did not send equally much".to_owned());
    }
    notes
}
