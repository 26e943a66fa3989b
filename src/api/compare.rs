//! Saved records, and what two of them show of each other.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::load;
use crate::report::compare::records::{self, RecordComparison, SavedRuns, compare_records};
use crate::report::model::{proxy, udp as model};
use crate::report::store::saved::{self, ReadError, Saved};
use crate::udp;

/// A comparison of two records of `bench udp`.
pub type UdpComparison = RecordComparison<model::ComparedSetting>;

/// A comparison of two records of `bench proxy`.
pub type ProxyComparison = RecordComparison<proxy::ComparedSetting>;

/// Why two records cannot be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A record is of another kind than the method compares.
    #[error("{} is a record of kind '{kind}'; both records must be of the kind that is compared", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// As in the record.
        kind: String,
    },
    /// They have no complete runs, or no setting in common.
    #[error(transparent)]
    Runs(#[from] records::CompareError),
}

/// A record that `bench udp` or `bench proxy` saved (`run.json`).
///
/// ```no_run
/// use wirebench::Record;
///
/// let before = Record::read("results/before")?;
/// let after = Record::read("results/after")?;
/// for row in before.compare_udp(&after)?.comparison {
///     let ratio = row.ratios.and_then(|ratios| ratios.kb_per_s);
///     println!("{}: KB/s are {ratio:?} of the base's", row.setting);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Record {
    path: PathBuf,
    saved: Saved,
}

impl Record {
    /// Reads the file at `path`, or `run.json` in the folder at `path`.
    ///
    /// # Errors
    /// [`ReadError`], which names the file and what is wrong with it.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref().to_owned();
        let saved = saved::read(&path)?;
        Ok(Self { path, saved })
    }

    /// The runs, where the record is of `bench udp`.
    pub fn udp(&self) -> Option<&[udp::result::Run]> {
        match &self.saved {
            Saved::Udp(record) => Some(&record.runs),
            Saved::Search(_) | Saved::Proxy(_) => None,
        }
    }

    /// The runs, where the record is of `bench proxy`.
    pub fn proxy(&self) -> Option<&[load::result::Run]> {
        match &self.saved {
            Saved::Udp(_) | Saved::Search(_) => None,
            Saved::Proxy(record) => Some(&record.runs),
        }
    }

    /// Compares the settings that both records of `bench udp` have. Ratios are of `new` to this record.
    ///
    /// # Errors
    /// [`CompareError`].
    pub fn compare_udp(&self, new: &Self) -> Result<UdpComparison, CompareError> {
        match (&self.saved, &new.saved) {
            (Saved::Udp(base), Saved::Udp(other)) => {
                let base = SavedRuns::new(&self.path, &base.meta, &base.runs);
                let new = SavedRuns::new(&new.path, &other.meta, &other.runs);
                Ok(compare_records(&base, &new)?)
            }
            (Saved::Udp(_), _) => Err(new.kind()),
            _ => Err(self.kind()),
        }
    }

    /// Compares the settings that both records of `bench proxy` have. Ratios are of `new` to this record.
    ///
    /// # Errors
    /// [`CompareError`].
    pub fn compare_proxy(&self, new: &Self) -> Result<ProxyComparison, CompareError> {
        match (&self.saved, &new.saved) {
            (Saved::Proxy(base), Saved::Proxy(other)) => {
                let base = SavedRuns::new(&self.path, &base.meta, &base.runs);
                let new = SavedRuns::new(&new.path, &other.meta, &other.runs);
                Ok(compare_records(&base, &new)?)
            }
            (Saved::Proxy(_), _) => Err(new.kind()),
            _ => Err(self.kind()),
        }
    }

    fn kind(&self) -> CompareError {
        CompareError::Kind {
            path: self.path.clone(),
            kind: self.saved.kind().to_owned(),
        }
    }
}
