//! The progress line, on a terminal only; it is cleared after the run.

use indicatif::{ProgressBar, ProgressStyle};

use crate::udp::result::Interval;
use crate::units::grouped;

/// The progress line. Hidden if stderr is not a terminal.
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
        // The constant template is valid; otherwise the default style is used.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Shows a message.
    pub(super) fn message(&self, sentence: String) {
        self.bar.set_message(sentence);
        self.bar.tick();
    }

    /// Shows the rates of an interval.
    pub(super) fn interval(&self, row: &Interval) {
        self.message(format!(
            "{:>8.1} s  {:>12} KB/s  {:>11} packets/s",
            row.start_s + row.seconds,
            grouped(row.kb_per_s as u64),
            grouped((row.packets as f64 / row.seconds) as u64),
        ));
    }

    /// Hides the line while `print` runs.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
