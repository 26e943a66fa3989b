//! A policy that is reloaded while other threads use it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use super::file_state::{FileStates, FileWatch};
use super::load::LoadedFile;
use super::local_addresses::LocalAddresses;
use super::policy::{Policy, Sources};
use super::problem::{FileError, LoadError};
use crate::sys::clock::realtime_ns;

/// Attempts to read files that change meanwhile, and the delay between attempts.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How long a replaced policy may stay in use. A decision takes microseconds.
const LAST_DECISION: Duration = Duration::from_secs(1);

/// The active policy, shared between threads. A decision uses one whole policy, the old or the new one.
///
/// Decisions take no lock and never free a policy, because freeing a million entries takes a tenth of a second. The reloading
/// thread creates and frees policies.
#[derive(Debug)]
pub struct Policies {
    sources: Sources,
    current: ArcSwap<Policy>,
    /// Locked while the policy is replaced, so that the last replacement has the newest local addresses.
    replacing: Mutex<()>,
    /// File states at the last read, successful or not. Locked while files are read.
    seen: Mutex<FileStates>,
    ok: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    read_at: AtomicU64,
    generation: AtomicU64,
}

/// Counts of reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloads {
    /// Successful reloads.
    pub ok: u64,
    /// Reloads rejected because of invalid lists.
    pub failed: u64,
    /// Reloads rejected because a list is empty or lost most of its entries.
    pub refused: u64,
    /// When the active lists were read, in ns since 1970.
    pub read_at: u64,
}

/// Summary of a reloaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadedFile {
    /// The file as it is now.
    pub file: LoadedFile,
    /// How many entries less the file has than before.
    pub fewer: usize,
}

/// `FILE: 600 entries (lines), 401 fewer than before`
impl fmt::Display for ReloadedFile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.file.fmt(f)?;
        match self.fewer {
            0 => Ok(()),
            fewer => write!(f, ", {fewer} fewer than before"),
        }
    }
}

impl Policies {
    /// Reads all lists.
    ///
    /// # Errors
    /// As [`Policy::load`], and [`FileError::Empty`] for each file without entries, unless allowed.
    pub fn load(sources: Sources) -> Result<Self, LoadError> {
        let seen = Mutex::new(file_states(&sources));
        let policy = Policy::load(&sources)?;
        if !sources.allow_empty {
            reject_empty(policy.files())?;
        }
        Ok(Self {
            sources,
            current: ArcSwap::from_pointee(policy),
            replacing: Mutex::new(()),
            seen,
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            read_at: AtomicU64::new(realtime_ns()),
            generation: AtomicU64::new(0),
        })
    }

    /// The active policy. To be fetched for every decision and not kept.
    pub fn current(&self) -> Guard<Arc<Policy>> {
        self.current.load()
    }

    /// Changes after each replacement of the policy. A decision that is kept is to be made again after a change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Reloads all lists and replaces the policy as a whole. Returns a summary of each file.
    ///
    /// # Errors
    /// As [`Policy::load`], and, unless allowed, [`FileError::Empty`] and [`FileError::Shrunk`] for a file that lost all or more
    /// than half of its entries, as a truncated download has. The active policy then stays.
    pub fn reload(&self) -> Result<Vec<ReloadedFile>, LoadError> {
        let mut seen = lock(&self.seen);
        let reloaded = self.read(&mut seen).and_then(|policy| {
            let before = self.current().files().to_vec();
            let files = policy.files().iter().cloned().zip(before);
            let files = files.map(|(file, before)| ReloadedFile {
                fewer: before.entries.saturating_sub(file.entries),
                file,
            });
            let files = files.collect();
            self.replace(Some(policy)).map_err(LoadError::from)?;
            Ok(files)
        });
        match &reloaded {
            Ok(_) => {
                self.ok.fetch_add(1, Ordering::Relaxed);
                self.read_at.store(realtime_ns(), Ordering::Relaxed);
            }
            Err(error) => {
                let count = match error.is_refusal() {
                    true => &self.refused,
                    false => &self.failed,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        reloaded
    }

    fn read(&self, seen: &mut FileStates) -> Result<Policy, LoadError> {
        for _ in 0..ATTEMPTS {
            *seen = file_states(&self.sources);
            let policy = Policy::reload(&self.sources);
            if *seen == file_states(&self.sources) {
                let policy = policy?;
                if !self.sources.allow_empty {
                    let current = self.current();
                    reject_shrunk(current.files(), policy.files())?;
                }
                return Ok(policy);
            }
            thread::sleep(PAUSE);
        }
        // `seen` keeps the state before the change, so that the watch reads the file again.
        Err(changing(seen, &self.sources))
    }

    /// Whether a file has changed since the last read, and is no longer changing.
    pub fn changed(&self, watch: &mut FileWatch) -> bool {
        let now = file_states(&self.sources);
        watch.changed(now, &lock(&self.seen))
    }

    /// Reads the addresses of this host again, if the policy uses them.
    ///
    /// # Errors
    /// As [`LocalAddresses::read`]. The previous addresses then stay.
    pub fn refresh_local_addresses(&self) -> io::Result<()> {
        match self.sources.deny_private {
            true => self.replace(None),
            false => Ok(()),
        }
    }

    /// Whether the policy uses the addresses of this host.
    pub fn uses_local_addresses(&self) -> bool {
        self.sources.deny_private
    }

    /// Activates a policy, or the active lists with the current local addresses. Frees the replaced policy after the last decision
    /// that uses it.
    fn replace(&self, policy: Option<Policy>) -> io::Result<()> {
        let old = {
            let _replacing = lock(&self.replacing);
            let policy = policy.map_or_else(|| self.current.load_full(), Arc::new);
            let policy = match self.sources.deny_private {
                true => Arc::new(policy.with_local_addresses(LocalAddresses::read()?)),
                false => policy,
            };
            let old = self.current.swap(policy);
            self.generation.fetch_add(1, Ordering::Release);
            old
        };
        let deadline = Instant::now() + LAST_DECISION;
        while Arc::strong_count(&old) > 1 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Counts of [`Self::reload`].
    pub fn reloads(&self) -> Reloads {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reloads {
            ok: count(&self.ok),
            failed: count(&self.failed),
            refused: count(&self.refused),
            read_at: count(&self.read_at),
        }
    }
}

/// No panic leaves the protected value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_states(sources: &Sources) -> FileStates {
    FileStates::of(sources.files().map(PathBuf::as_path))
}

fn reject_empty(files: &[LoadedFile]) -> Result<(), LoadError> {
    let mut errors = LoadError::default();
    for file in files.iter().filter(|file| file.entries == 0) {
        errors.file(&file.file, FileError::Empty);
    }
    errors.into_result(())
}

/// Both lists of files have the same order.
fn reject_shrunk(before: &[LoadedFile], after: &[LoadedFile]) -> Result<(), LoadError> {
    let mut errors = LoadError::default();
    for (
        LoadedFile {
            entries: before, ..
        },
        file,
    ) in before.iter().zip(after)
    {
        let (before, after) = (*before, file.entries);
        if before > 0 && after == 0 {
            errors.file(&file.file, FileError::Empty);
        } else if 2 * after < before {
            errors.file(&file.file, FileError::Shrunk { before, after });
        }
    }
    errors.into_result(())
}

fn changing(seen: &FileStates, sources: &Sources) -> LoadError {
    let mut errors = LoadError::default();
    let differing: Vec<_> = seen.differing(&file_states(sources)).collect();
    let files = sources.files().enumerate();
    for (_, file) in files.filter(|(number, _)| differing.contains(number)) {
        errors.file(file, FileError::Changing);
    }
    errors
}

#[cfg(test)]
mod tests;
