//! Output of `bench udp search`: the summary, the progress line and the files. Each trial is saved when it ends.

use super::Early;
use super::args::Search;
use crate::cli::error::CliError;
use crate::cli::exports::Exports;
use crate::cli::progress::Progress;
use crate::cli::text_out::TextOut;
use crate::report::export::text::Text;
use crate::report::export::{Document, Exporter};
use crate::report::figures::figure;
use crate::report::model::search::{SearchGoal, SearchTrial};
use crate::report::model::{Meta, SearchRecord};
use crate::report::store::RunFolder;
use crate::sys::clock;
use crate::udp::result::{Requested, Run};
use crate::udp::search::{Goal, GoalResult, Range};

/// Destinations of a search.
pub(super) struct Output {
    record: SearchRecord,
    store: Option<RunFolder>,
    exports: Option<Exports>,
    progress: Progress,
    text: TextOut,
    /// Whether stdout shows text.
    shown: bool,
}

impl Output {
    /// Opens all destinations.
    pub(super) fn open(args: &Search, goals: &[Goal], range: Range) -> Result<Self, CliError> {
        let started = clock::realtime_ns();
        let exports = args.exports.open()?;
        let store = match args.saving.no_save {
            true => None,
            false => Some(
                RunFolder::create(&args.saving.out, "udp-search", started)
                    .map_err(CliError::runtime)?,
            ),
        };
        let goals = goals.iter();
        let goals = goals.map(|goal| SearchGoal::new(goal, &GoalResult::UNKNOWN, 0, &[]));
        Ok(Self {
            record: SearchRecord {
                meta: Meta::here("udp-search", started, crate::cli::command_line()),
                complete: false,
                ended: "failed".to_owned(),
                // The record is saved after each trial, and stays so if the program is killed.
                reason: Some("the search has not ended".to_owned()),
                seconds: 0.0,
                requested: Requested::default(),
                effective: None,
                min_pps: range.min,
                max_pps: range.max,
                pause_s: args.pause.as_secs_f64(),
                goals: goals.collect(),
                trials: Vec::new(),
            },
            store,
            shown: !exports.uses_stdout() && !args.saving.quiet,
            exports: Some(exports),
            progress: Progress::new(args.saving.quiet),
            text: TextOut::new(false),
        })
    }

    /// The settings of all trials.
    pub(super) fn requested(&mut self, of_trial: &Requested) {
        self.record.requested = Requested {
            duration_s: None,
            pps: None,
            ..of_trial.clone()
        };
    }

    pub(super) fn effective(&mut self, run: &Run) {
        self.record.effective = Some(run.effective.clone());
    }

    /// A trial starts.
    pub(super) fn trial(&self, load: f64, phase: &str) {
        let bounds = self.record.goals.iter().map(|goal| {
            let [lower, upper] =
                [goal.lower_pps, goal.upper_pps].map(|pps| pps.map_or("-".to_owned(), figure));
            format!("{lower} to {upper}")
        });
        let bounds: Vec<String> = bounds.collect();
        self.progress.message(format!(
            "{phase} trial {} at {} packets/s; bounds {}",
            self.record.trials.len(),
            figure(load),
            bounds.join(", ")
        ));
    }

    /// Saves a trial and the results after it.
    pub(super) fn add(
        &mut self,
        trial: SearchTrial,
        results: &[GoalResult],
        chunk: usize,
        seconds: f64,
    ) -> Result<(), CliError> {
        self.record.trials.push(SearchTrial {
            trial: self.record.trials.len(),
            ..trial
        });
        let trials = &self.record.trials;
        for (goal, result) in self.record.goals.iter_mut().zip(results) {
            *goal = SearchGoal::new(&goal.goal, result, chunk, trials);
        }
        self.record.seconds = seconds;
        match &mut self.store {
            Some(store) => store.save_search(&self.record).map_err(CliError::runtime),
            None => Ok(()),
        }
    }

    /// The search has ended, early for the given reason.
    pub(super) fn ended(mut self, early: Option<Early>, seconds: f64) -> Result<(), CliError> {
        let (ended, reason, outcome) = match early {
            None => ("complete", None, Ok(())),
            Some(Early::Interrupted) => (
                "interrupted",
                Some("the user stopped the search".to_owned()),
                Ok(()),
            ),
            Some(Early::TimeLimit) => {
                let reason = "the time of --time-limit is over; choose a longer one, a larger --width or a shorter --trial";
                let error = CliError::Runtime(format!("the search is incomplete: {reason}"));
                ("time_limit", Some(reason.to_owned()), Err(error))
            }
            Some(Early::Failed(reason)) => {
                let error = CliError::Runtime(match self.record.trials.is_empty() {
                    true => reason.clone(),
                    false => format!("the search is incomplete: {reason}"),
                });
                ("failed", Some(reason), Err(error))
            }
            Some(Early::Output(error)) => (
                "failed",
                Some("the results could not be written".to_owned()),
                Err(error),
            ),
        };
        self.record.complete = outcome.is_ok() && reason.is_none();
        self.record.ended = ended.to_owned();
        self.record.reason = reason;
        self.record.seconds = seconds;
        self.close(outcome)
    }

    /// Prints and writes the results, whatever the outcome.
    pub(super) fn close(mut self, outcome: Result<(), CliError>) -> Result<(), CliError> {
        self.progress.clear();
        if self.record.trials.is_empty() {
            return outcome;
        }
        let saved = self.save();
        let shown = self.show();
        let id = self.store.as_ref().map(RunFolder::id).unwrap_or_default();
        let document = Document::UdpSearch {
            id: &id,
            record: &self.record,
        };
        let exports = self.exports.take();
        let exported = exports.map_or(Ok(()), |exports| exports.write(&document));
        // Every destination is written even if another one failed; the first error is the cause.
        CliError::first(outcome, CliError::first(saved.and(exported), shown))
    }

    fn save(&mut self) -> Result<(), CliError> {
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let saved = store.save_search(&self.record);
        let saved = saved.and_then(|()| store.save_picture(&self.record));
        saved.map_err(CliError::runtime)
    }

    fn show(&mut self) -> Result<(), CliError> {
        if !self.shown {
            return Ok(());
        }
        let (record, store) = (&self.record, &self.store);
        self.text.print(|out| {
            Text.write(&Document::UdpSearch { id: "", record }, out)?;
            if let Some(store) = store {
                writeln!(out, "saved      {}", store.path().display())?;
            }
            Ok(())
        })
    }
}
