//! A policy that is read again while others decide by it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use super::load::Loaded;
use super::own::OwnAddresses;
use super::policy::{Policy, Sources};
use super::problem::{FileError, LoadError};
use super::stamp::{Stamps, Watch};
use crate::sys::clock::realtime_ns;

/// How often files that change while they are read are read again, and how long after.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How long the last decision by an old policy is waited for. It takes microseconds.
const LAST_DECISION: Duration = Duration::from_millis(200);

/// The policy in force. Shared between threads; each decision is made by one whole policy, the old or the new.
///
/// Whoever decides takes no lock and never frees a policy: a million entries take a tenth of a second to free. Policies
/// are made and freed by the thread that reloads them.
#[derive(Debug)]
pub struct Policies {
    sources: Sources,
    current: ArcSwap<Policy>,
    /// What the files were when they were last read, well or not. Held while the policy is changed.
    seen: Mutex<Stamps>,
    ok: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    read_at: AtomicU64,
}

/// How often lists were read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloads {
    /// Times that it went well.
    pub ok: u64,
    /// Times that the old ones stayed in force because the new ones could not be read.
    pub failed: u64,
    /// Times that the old ones stayed in force because a new one is empty, or lost most of its entries.
    pub refused: u64,
    /// When those in force were read, in ns since 1970.
    pub read_at: u64,
}

impl Policies {
    /// Reads all lists.
    ///
    /// # Errors
    /// As for [`Policy::load`], and [`FileError::Empty`] for each file without entries unless that is allowed.
    pub fn load(sources: Sources) -> Result<Self, LoadError> {
        let seen = Mutex::new(stamps(&sources));
        let policy = Policy::load(&sources)?;
        if !sources.allow_empty {
            refuse_empty(policy.files())?;
        }
        Ok(Self {
            sources,
            current: ArcSwap::from_pointee(policy),
            seen,
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            read_at: AtomicU64::new(realtime_ns()),
        })
    }

    /// The policy to decide by. To be asked for anew for every decision, and not kept.
    pub fn current(&self) -> Guard<Arc<Policy>> {
        self.current.load()
    }

    /// Reads all lists again, and puts the new policy in force at once and as a whole. Returns what each file turned out to be.
    ///
    /// # Errors
    /// As for [`Policy::load`]; and unless that is allowed, [`FileError::Empty`] and [`FileError::Shrunk`] for a file that has
    /// lost all or more than half of its entries, as a download that was cut short has. Then the old policy stays in force.
    pub fn reload(&self) -> Result<Vec<Loaded>, LoadError> {
        let mut seen = self.lock();
        match self.read(&mut seen) {
            Ok(policy) => {
                let files = policy.files().to_vec();
                self.replace(policy);
                self.ok.fetch_add(1, Ordering::Relaxed);
                self.read_at.store(realtime_ns(), Ordering::Relaxed);
                Ok(files)
            }
            Err(error) => {
                let count = match error.is_refusal() {
                    true => &self.refused,
                    false => &self.failed,
                };
                count.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn read(&self, seen: &mut Stamps) -> Result<Policy, LoadError> {
        for _ in 0..ATTEMPTS {
            *seen = stamps(&self.sources);
            let policy = Policy::load(&self.sources);
            if *seen == stamps(&self.sources) {
                let policy = policy?;
                if !self.sources.allow_empty {
                    let current = self.current();
                    refuse_shrunk(current.files(), policy.files())?;
                }
                return Ok(policy);
            }
            thread::sleep(PAUSE);
        }
        // Seen as it was before it changed, so that who watches reads it again.
        Err(changing(seen, &self.sources))
    }

    /// Whether a file has changed since it was last read, well or not, and no longer does.
    pub fn look(&self, watch: &mut Watch) -> bool {
        let now = stamps(&self.sources);
        watch.look(now, &self.lock())
    }

    /// Asks the kernel again for the addresses of this host, where the policy is about them.
    ///
    /// # Errors
    /// As for [`OwnAddresses::read`]. Then those known before stay in force.
    pub fn refresh_own_addresses(&self) -> io::Result<()> {
        if self.sources.deny_private {
            let _seen = self.lock();
            let own = OwnAddresses::read()?;
            let policy = self.current().with_own_addresses(own);
            self.replace(policy);
        }
        Ok(())
    }

    /// Whether the policy is about the addresses of this host.
    pub fn has_own_addresses(&self) -> bool {
        self.sources.deny_private
    }

    /// Puts a policy in force, and frees the one before once the last decision by it is made.
    fn replace(&self, policy: Policy) {
        let old = self.current.swap(Arc::new(policy));
        let deadline = Instant::now() + LAST_DECISION;
        while Arc::strong_count(&old) > 1 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How often [`Self::reload`] was asked for.
    pub fn reloads(&self) -> Reloads {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reloads {
            ok: count(&self.ok),
            failed: count(&self.failed),
            refused: count(&self.refused),
            read_at: count(&self.read_at),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stamps> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(sources: &Sources) -> Stamps {
    Stamps::of(sources.files().map(PathBuf::as_path))
}

fn refuse_empty(files: &[Loaded]) -> Result<(), LoadError> {
    let mut wrong = LoadError::default();
    for file in files.iter().filter(|file| file.entries == 0) {
        wrong.file(&file.file, FileError::Empty);
    }
    wrong.or(())
}

/// The files are those of before, in the same order.
fn refuse_shrunk(before: &[Loaded], after: &[Loaded]) -> Result<(), LoadError> {
    let mut wrong = LoadError::default();
    for (
        Loaded {
            entries: before, ..
        },
        file,
    ) in before.iter().zip(after)
    {
        let (before, after) = (*before, file.entries);
        if before > 0 && after == 0 {
            wrong.file(&file.file, FileError::Empty);
        } else if 2 * after < before {
            wrong.file(&file.file, FileError::Shrunk { before, after });
        }
    }
    wrong.or(())
}

fn changing(seen: &Stamps, sources: &Sources) -> LoadError {
    let mut wrong = LoadError::default();
    let differing: Vec<_> = seen.differing(&stamps(sources)).collect();
    let files = sources.files().enumerate();
    for (_, file) in files.filter(|(number, _)| differing.contains(number)) {
        wrong.file(file, FileError::Changing);
    }
    wrong
}

#[cfg(test)]
mod tests;
