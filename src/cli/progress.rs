//! The progress line with the current KB/s: on a terminal only, and gone when the run is over.

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::record::Interval;
use crate::units::grouped;

/// The line. Hidden where stderr is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        // The template is a constant that indicatif accepts; without it the default would do.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Shows a sentence.
    pub(super) fn say(&self, sentence: String) {
        self.bar.set_message(sentence);
        self.bar.tick();
    }

    /// Shows how fast it goes.
    pub(super) fn interval(&self, row: &Interval) {
        self.say(format!(
            "{:>8.1} s  {:>12} KB/s  {:>11} packets/s",
            row.start_s + row.seconds,
            grouped(row.kb_per_s as u64),
            grouped((row.packets as f64 / row.seconds) as u64),
        ));
    }

    /// Takes the line away while something else is printed.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
