//! Two saved records, setting by setting.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::group::{Group, groups};
use super::settings::{Settings, labels};
use super::{figures, ratios};
use crate::report::record::{Compared, MOST_RUNS, Record, Run};

/// What two records say of each other.
#[derive(Debug, Clone, Serialize)]
pub struct Between {
    /// The one that the ratios are to.
    pub base: Source,
    /// The other.
    pub new: Source,
    /// What a reader must know before believing a difference. Sentences.
    pub notes: Vec<String>,
    /// Each setting that both have, twice: the base's runs, then the new ones.
    pub comparison: Vec<Compared>,
    /// Settings that only the base has.
    pub only_in_base: Vec<String>,
    /// Settings that only the other has.
    pub only_in_new: Vec<String>,
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
        "nothing can be compared: {} has {base}, {} has {new}; compare runs of the same options, or have one command try both, as `bench udp --engine mio,uring` does",
        base_path.display(), new_path.display()
    )]
    NothingInCommon {
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
pub fn between(
    (base_path, base): (&Path, &Record),
    (new_path, new): (&Path, &Record),
) -> Result<Between, BetweenError> {
    let (before, after) = (usable(base_path, base)?, usable(new_path, new)?);
    let of = |groups: &[Group<'_>]| groups.iter().map(|group| group.settings.clone()).collect();
    let mut all: Vec<Settings> = of(&before);
    let others: Vec<Settings> = of(&after);
    all.extend(
        others
            .into_iter()
            .filter(|other| !before.iter().any(|group| group.settings == *other)),
    );
    let labelled: Vec<_> = labels(&all).into_iter().zip(&all).collect();

    let mut comparison = Vec::new();
    let (mut only_in_base, mut only_in_new) = (Vec::new(), Vec::new());
    for (label, settings) in labelled {
        let find =
            |groups: &'_ [Group<'_>]| groups.iter().position(|group| group.settings == *settings);
        match (find(&before), find(&after)) {
            (Some(base), Some(new)) => comparison.extend(pair(&label, &before[base], &after[new])),
            (Some(_), None) => only_in_base.push(label),
            (None, _) => only_in_new.push(label),
        }
    }
    if comparison.is_empty() {
        return Err(BetweenError::NothingInCommon {
            base_path: base_path.to_owned(),
            base: only_in_base.join("; "),
            new_path: new_path.to_owned(),
            new: only_in_new.join("; "),
        });
    }
    Ok(Between {
        notes: notes(base, new),
        base: source(base_path, base),
        new: source(new_path, new),
        comparison,
        only_in_base,
        only_in_new,
    })
}

fn usable<'a>(path: &Path, record: &'a Record) -> Result<Vec<Group<'a>>, BetweenError> {
    if record.runs.len() > MOST_RUNS {
        return Err(BetweenError::TooManyRuns {
            path: path.to_owned(),
            count: record.runs.len(),
        });
    }
    if !record.runs.iter().any(|run| run.complete) {
        return Err(BetweenError::NoRuns(path.to_owned()));
    }
    Ok(groups(&record.runs))
}

fn pair(label: &str, base: &Group<'_>, new: &Group<'_>) -> [Compared; 2] {
    let name = |side: &str| match label {
        "" => side.to_owned(),
        label => format!("{label}, {side}"),
    };
    [
        Compared {
            setting: name("base"),
            ..figures(base)
        },
        Compared {
            setting: name("new"),
            base: Some(name("base")),
            ratios: Some(ratios(|figure| new.apart(base, figure))),
            ..figures(new)
        },
    ]
}

fn source(path: &Path, record: &Record) -> Source {
    Source {
        path: path.to_owned(),
        started_at: record.started_at.clone(),
        wirebench: record.wirebench.clone(),
    }
}

fn notes(base: &Record, new: &Record) -> Vec<String> {
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
    let amount = |record: &Record| {
        let first: Option<&Run> = record.runs.first();
        first
            .map(|run| &run.requested)
            .map(|of| (of.bytes, of.packets, of.duration_s))
    };
    if amount(base) != amount(new) {
        notes.push("they did not send equally much".to_owned());
    }
    notes
}
