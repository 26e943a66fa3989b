//! The options of what a measurement saves and prints.

use std::path::PathBuf;

use clap::Args;

/// What a measurement saves and prints.
#[derive(Debug, Args)]
pub(super) struct Saving {
    /// Folder for the ledger and the run folders
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results",
        help_heading = "Output"
    )]
    pub(super) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out", help_heading = "Output")]
    pub(super) no_save: bool,
    /// Print errors only
    #[arg(long, short, help_heading = "Output")]
    pub(super) quiet: bool,
}
