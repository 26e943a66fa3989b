//! Comparison of two saved records, setting by setting.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::group::{Comparable, Group, Pairing, against, group_by};
use super::labels::labels;
use super::setting::Compared;
use crate::report::model::{Curve, Curves, Distributed, MOST_RUNS, Meta, typical};
use crate::udp::result::Interval;

/// A record to compare.
#[derive(Debug)]
pub struct SavedRuns<'a, R> {
    /// Where it was read from.
    pub path: &'a Path,
    /// Its command and machine.
    pub meta: &'a Meta,
    /// Its runs.
    pub runs: &'a [R],
    /// Their latency distributions, where they are known.
    pub curves: Option<&'a Curves>,
}

impl<'a, R> SavedRuns<'a, R> {
    /// The runs of the record that was read from `path`.
    pub fn new(path: &'a Path, meta: &'a Meta, runs: &'a [R]) -> Self {
        Self {
            path,
            meta,
            runs,
            curves: None,
        }
    }

    /// Adds the latency distributions of the runs.
    #[must_use]
    pub fn with_curves(self, curves: &'a Curves) -> Self {
        Self {
            curves: Some(curves),
            ..self
        }
    }
}

/// The comparison of two records.
#[derive(Debug, Clone, Serialize)]
pub struct RecordComparison<C> {
    /// The record that the ratios refer to.
    pub base: Source,
    /// The other record.
    pub new: Source,
    /// Sentences that qualify the differences.
    pub notes: Vec<String>,
    /// Two entries per setting that both records have: the base's runs, then the new runs.
    pub comparison: Vec<C>,
    /// Settings of the base only.
    pub only_in_base: Vec<String>,
    /// Settings of the other record only.
    pub only_in_new: Vec<String>,
    /// Kind of both records: `udp` or `proxy`.
    pub kind: String,
    /// The latency by percentile of each of `comparison`.
    #[serde(skip)]
    pub curves: Vec<Option<Curve>>,
    /// The intervals of the typical run of each of `comparison`.
    #[serde(skip)]
    pub intervals: Vec<Vec<Interval>>,
}

/// Origin of a compared record.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// As given.
    pub path: PathBuf,
    /// As in the record.
    pub started_at: String,
    /// As in the record.
    pub wirebench: String,
    /// The record's command and machine.
    #[serde(skip)]
    pub meta: Meta,
}

/// Why two records cannot be compared.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompareError {
    /// The record has no complete run.
    #[error("{} has no complete run; give one that has", .0.display())]
    NoRuns(PathBuf),
    /// The record has more runs than any command.
    #[error("{} has {count} runs, more than the {MOST_RUNS} that bench does", path.display())]
    TooManyRuns {
        /// The file.
        path: PathBuf,
        /// Its runs.
        count: usize,
    },
    /// No setting is in both records.
    #[error(
        "nothing can be compared: {} has {base}, {} has {new}; compare runs with the same options, or compare settings within one command, as `bench {kind} --engine mio,uring` does",
        base_path.display(), new_path.display()
    )]
    NothingInCommon {
        /// Kind of both records.
        kind: String,
        /// The base's file.
        base_path: PathBuf,
        /// The base's settings.
        base: String,
        /// The other file.
        new_path: PathBuf,
        /// The other record's settings.
        new: String,
    },
}

/// Compares the settings that both records have.
///
/// # Errors
/// [`CompareError`].
pub fn compare_records<R: Comparable + Distributed>(
    base: &SavedRuns<'_, R>,
    new: &SavedRuns<'_, R>,
) -> Result<RecordComparison<R::Compared>, CompareError> {
    let (base_groups, new_groups) = (groups(base)?, groups(new)?);
    let mut all: Vec<R::Settings> = Vec::new();
    for (settings, _) in base_groups.iter().chain(&new_groups) {
        if !all.contains(settings) {
            all.push(settings.clone());
        }
    }

    let (mut comparison, mut curves, mut intervals) = (Vec::new(), Vec::new(), Vec::new());
    let none = Curves::default();
    let [base_curves, new_curves] = [base, new].map(|of| of.curves.unwrap_or(&none));
    let (mut only_in_base, mut only_in_new) = (Vec::new(), Vec::new());
    let mut as_much = true;
    for (label, settings) in labels(&all).into_iter().zip(&all) {
        match (find(&base_groups, settings), find(&new_groups, settings)) {
            (Some(base), Some(new)) => {
                for (group, known) in [(base, base_curves), (new, new_curves)] {
                    let runs: Vec<&R> = group.complete().collect();
                    curves.push(known.compared(&runs));
                    let typical = typical(&runs).map(|(_, run)| run.intervals().to_vec());
                    intervals.push(typical.unwrap_or_default());
                }
                let mut amounts = base.runs.iter().zip(&new.runs);
                as_much &= amounts.all(|(base, new)| base.is_as_much_as(new));
                let [base_name, name] = names(&label);
                let compared = against((name, new), (&base_name, base), Pairing::None);
                comparison.extend([R::figures(base_name, base), compared]);
            }
            (Some(_), None) => only_in_base.push(label),
            (None, _) => only_in_new.push(label),
        }
    }
    if comparison.is_empty() {
        return Err(CompareError::NothingInCommon {
            kind: base.meta.kind.clone(),
            base_path: base.path.to_owned(),
            base: only_in_base.join("; "),
            new_path: new.path.to_owned(),
            new: only_in_new.join("; "),
        });
    }
    let mut notes = differences(base.meta, new.meta, as_much);
    notes.extend(R::caveats(base.runs, new.runs));
    for [base, new] in comparison.as_chunks().0 {
        notes.extend(new.notes(base));
    }
    Ok(RecordComparison {
        notes,
        base: source(base),
        new: source(new),
        comparison,
        only_in_base,
        only_in_new,
        kind: base.meta.kind.clone(),
        curves,
        intervals,
    })
}

type Groups<'a, R> = Vec<(<R as Comparable>::Settings, Group<'a, R>)>;

fn groups<'a, R: Comparable>(record: &SavedRuns<'a, R>) -> Result<Groups<'a, R>, CompareError> {
    let count = record.runs.len();
    if count > MOST_RUNS {
        let path = record.path.to_owned();
        return Err(CompareError::TooManyRuns { path, count });
    }
    if !record.runs.iter().any(Comparable::is_complete) {
        return Err(CompareError::NoRuns(record.path.to_owned()));
    }
    Ok(group_by(record.runs, R::settings))
}

fn find<'g, 'a, R: Comparable>(
    groups: &'g Groups<'a, R>,
    settings: &R::Settings,
) -> Option<&'g Group<'a, R>> {
    let mut all = groups.iter();
    let (_, group) = all.find(|(of, _)| of == settings)?;
    Some(group)
}

/// Names of a setting in the base and in the other record.
fn names(label: &str) -> [String; 2] {
    ["base", "new"].map(|record| match label {
        "" => record.to_owned(),
        label => format!("{label}, {record}"),
    })
}

fn source<R>(record: &SavedRuns<'_, R>) -> Source {
    Source {
        path: record.path.to_owned(),
        started_at: record.meta.started_at.clone(),
        wirebench: record.meta.wirebench.clone(),
        meta: record.meta.clone(),
    }
}

/// Differences between the commands that weaken a comparison of their runs.
fn differences(base: &Meta, new: &Meta, as_much: bool) -> Vec<String> {
    let mut notes = vec![
        "the runs of two commands did not take turns: drift between the commands counts as a difference; only runs within one command are free of it".to_owned(),
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
        notes.push("the two commands did not request the same amount of data".to_owned());
    }
    notes
}
