//! Detection of changed files by their metadata.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// States of files, in order; `None` for a missing file. The inode shows a replaced file, size or time a written one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileStates(Vec<Option<FileState>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    /// ctime and mtime, in seconds and ns. ctime cannot be set back.
    changed: (i64, i64),
    written: (i64, i64),
}

impl FileStates {
    /// The current states.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(files.into_iter().map(stamp).collect())
    }

    /// Numbers of the files with another state in `other`.
    pub(super) fn differing(&self, other: &Self) -> impl Iterator<Item = usize> {
        let both = self.0.iter().zip(&other.0).enumerate();
        both.filter_map(|(number, (one, other))| (one != other).then_some(number))
    }
}

fn stamp(file: &Path) -> Option<FileState> {
    let facts = fs::metadata(file).ok()?;
    Some(FileState {
        device: facts.dev(),
        inode: facts.ino(),
        size: facts.size(),
        changed: (facts.ctime(), facts.ctime_nsec()),
        written: (facts.mtime(), facts.mtime_nsec()),
    })
}

/// Polls files for changes.
#[derive(Debug, Default)]
pub struct FileWatch {
    last: FileStates,
}

impl FileWatch {
    /// Whether the states differ from `seen` and equal those of the previous poll: a file that is still being written is not
    /// reported.
    pub fn changed(&mut self, now: FileStates, seen: &FileStates) -> bool {
        let is_stable = now == self.last;
        self.last = now;
        is_stable && self.last != *seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_reported_once_it_has_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        let now = || FileStates::of([file.as_path()]);
        fs::write(&file, "1\n").unwrap();
        let seen = now();
        let mut watch = FileWatch::default();
        let mut changed = || watch.changed(now(), &seen);
        assert!(!changed() && !changed());
        // Truncated and written slowly.
        for content in ["", "1\n", "1\n2\n", "1\n2\n3\n"] {
            fs::write(&file, content).unwrap();
            assert!(!changed(), "{content}");
        }
        assert!(changed() && changed());
        // Removed and created again.
        fs::remove_file(&file).unwrap();
        assert!(!changed());
        fs::write(folder.path().join("new"), "4\n").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(!changed());
        assert!(changed());
    }
}
