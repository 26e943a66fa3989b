//! A policy that is read anew while others decide by it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::load::{LoadError, Loaded};
use super::policy::{Policy, Sources};
use crate::sys::clock::realtime_ns;

/// The policy in force. Shared between threads; each decision is made by one whole policy, the old or the new.
///
/// A lock around a pointer is enough: it is held for as long as counting a reference takes, once a connection.
#[derive(Debug)]
pub struct Policies {
    sources: Sources,
    current: RwLock<Arc<Policy>>,
    /// What the files were when they were last read, well or not.
    seen: Mutex<Vec<Option<Stamp>>>,
    ok: AtomicU64,
    failed: AtomicU64,
    read_at: AtomicU64,
}

/// How often lists were read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloads {
    /// Times that it went well.
    pub ok: u64,
    /// Times that the old ones stayed in force.
    pub failed: u64,
    /// When those in force were read, in ns since 1970.
    pub read_at: u64,
}

impl Policies {
    /// Reads all lists.
    ///
    /// # Errors
    /// As for [`Policy::load`].
    pub fn load(sources: Sources) -> Result<Self, LoadError> {
        let seen = Mutex::new(stamps(&sources));
        let current = RwLock::new(Arc::new(Policy::load(&sources)?));
        Ok(Self {
            sources,
            current,
            seen,
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            read_at: AtomicU64::new(realtime_ns()),
        })
    }

    /// The policy to decide by. Ask again for every connection.
    pub fn current(&self) -> Arc<Policy> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads all lists anew, and puts the new policy in force at once and as a whole. Tells what each file turned out to
    /// be: an emptied list is in force too.
    ///
    /// # Errors
    /// As for [`Policy::load`]. Then the old policy stays in force.
    pub fn reload(&self) -> Result<Vec<Loaded>, LoadError> {
        // Before the files are read: a change in between is seen again. Held on, so that of two reloads at
        // once the one that read last has the last word.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = stamps(&self.sources);
        let policy = Policy::load(&self.sources).inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
        })?;
        let files = policy.files().to_vec();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.ok.fetch_add(1, Ordering::Relaxed);
        self.read_at.store(realtime_ns(), Ordering::Relaxed);
        Ok(files)
    }

    /// How often [`Self::reload`] was asked for.
    pub fn reloads(&self) -> Reloads {
        Reloads {
            ok: self.ok.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            read_at: self.read_at.load(Ordering::Relaxed),
        }
    }

    /// Whether any file is another than when it was last read, well or not: to be asked now and then to follow changes.
    /// A file that was replaced is seen by its inode, one that was written to by its size or time.
    pub fn changed(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen != stamps(&self.sources)
    }
}

/// What tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

fn stamps(sources: &Sources) -> Vec<Option<Stamp>> {
    sources.files().map(|file| stamp(file)).collect()
}

/// None for a file that is not there.
fn stamp(file: &Path) -> Option<Stamp> {
    let facts = fs::metadata(file).ok()?;
    Some(Stamp {
        device: facts.dev(),
        inode: facts.ino(),
        size: facts.size(),
        // The time of the last change cannot be set back, unlike that of the last write.
        changed: (facts.ctime(), facts.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::policy::Verdict;
    use super::*;

    #[test]
    fn a_broken_list_leaves_the_old_one_in_force_and_an_emptied_one_applies() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        let one = "192.0.2.1:80".parse().unwrap();
        let two = "192.0.2.2:80".parse().unwrap();
        let blocked = |policies: &Policies| {
            let policy = policies.current();
            [one, two].map(|address| policy.decide(address, None) != Verdict::Allowed)
        };
        fs::write(&file, "192.0.2.1\n").unwrap();
        let policies = Policies::load(Sources {
            block: vec![file.clone()],
            ..Sources::default()
        })
        .unwrap();
        let held = policies.current();
        let first_read = policies.reloads().read_at;
        assert_eq!(blocked(&policies), [true, false]);
        assert!(!policies.changed());

        fs::write(&file, "192.0.2.2\n192.0.2\n").unwrap();
        assert!(policies.changed());
        let error = policies.reload().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:2: ", file.display())),
            "{error}"
        );
        assert_eq!(blocked(&policies), [true, false]);
        assert!(
            !policies.changed(),
            "a broken list is not read over and over"
        );

        fs::write(&file, "192.0.2.2\n").unwrap();
        assert_eq!(policies.reload().unwrap()[0].entries, 1);
        assert_eq!(blocked(&policies), [false, true]);

        fs::remove_file(&file).unwrap();
        assert!(policies.changed());
        assert!(policies.reload().is_err());
        assert_eq!(blocked(&policies), [false, true]);

        fs::write(&file, "").unwrap();
        assert_eq!(policies.reload().unwrap()[0].entries, 0);
        assert_eq!(blocked(&policies), [false, false]);
        let reloads = policies.reloads();
        assert_eq!((reloads.ok, reloads.failed), (2, 2));
        assert!(reloads.read_at > first_read);
        // Who still holds the first policy decides by it.
        assert_ne!(held.decide(one, None), Verdict::Allowed);
    }
}
