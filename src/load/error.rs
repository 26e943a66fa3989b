//! Errors of requests, by kind.

use std::io;

/// Kinds of request errors, in the order of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Connection refused: no listener.
    ConnectRefused,
    /// The destination is unreachable, or the connection broke while it was established.
    ConnectFailed,
    /// This host ran out of ports, files or memory.
    Local,
    /// The proxy refused in its protocol.
    RefusedByProxy,
    /// The proxy's reply violates its protocol.
    BadReply,
    /// The proxy connected to a destination that it was expected to refuse.
    NotRefused,
    /// The answer was not complete within the timeout.
    Timeout,
    /// The connection was reset.
    Reset,
    /// The connection closed before the answer was complete.
    ClosedEarly,
    /// The answer differs from the expected one.
    Corrupt,
    /// The answer was correct, but the connection stayed open.
    NotClosed,
    /// The request was due, but no connection was idle until the end of the run.
    NotStarted,
}

/// The number of kinds.
const KINDS: usize = 12;

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; KINDS] = [
        Self::ConnectRefused,
        Self::ConnectFailed,
        Self::Local,
        Self::RefusedByProxy,
        Self::BadReply,
        Self::NotRefused,
        Self::Timeout,
        Self::Reset,
        Self::ClosedEarly,
        Self::Corrupt,
        Self::NotClosed,
        Self::NotStarted,
    ];

    /// The name in files and on the terminal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectFailed => "connect_failed",
            Self::Local => "local",
            Self::RefusedByProxy => "refused_by_proxy",
            Self::BadReply => "bad_reply",
            Self::NotRefused => "not_refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed_early",
            Self::Corrupt => "corrupt",
            Self::NotClosed => "not_closed",
            Self::NotStarted => "not_started",
        }
    }
}

/// One request error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// The kind.
    pub kind: ErrorKind,
    /// What happened; empty where the kind is enough.
    pub detail: String,
}

impl RequestError {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    /// From a socket error; `open` once the connection carried bytes.
    pub fn from_io(error: &io::Error, open: bool) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::PermissionDenied => ErrorKind::Local,
            // std has no kind for EMFILE and ENFILE.
            _ if matches!(error.raw_os_error(), Some(libc::ENFILE | libc::EMFILE)) => {
                ErrorKind::Local
            }
            io::ErrorKind::ConnectionRefused => ErrorKind::ConnectRefused,
            _ if !open => ErrorKind::ConnectFailed,
            // ETIMEDOUT: sent bytes were not acknowledged.
            io::ErrorKind::TimedOut => ErrorKind::Timeout,
            _ => ErrorKind::Reset,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ErrorKind> for RequestError {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, "")
    }
}

/// Error counts by kind, and the first error of each.
#[derive(Debug, Clone, Default)]
pub struct ErrorCounts {
    counts: [u64; KINDS],
    first: [Option<String>; KINDS],
}

impl ErrorCounts {
    /// Counts one error.
    pub fn add(&mut self, error: RequestError) {
        let kind = error.kind as usize;
        self.counts[kind] += 1;
        self.first[kind].get_or_insert(error.detail);
    }

    /// Counts `more` errors of a kind.
    pub fn add_many(&mut self, kind: ErrorKind, more: u64) {
        self.counts[kind as usize] += more;
    }

    /// Adds the counts of another thread.
    pub fn merge(&mut self, other: &Self) {
        for kind in 0..KINDS {
            self.counts[kind] += other.counts[kind];
            if self.first[kind].is_none() {
                self.first[kind].clone_from(&other.first[kind]);
            }
        }
    }

    /// All errors.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Errors of one kind.
    pub fn count(&self, kind: ErrorKind) -> u64 {
        self.counts[kind as usize]
    }

    /// Each kind that occurred: its count and the detail of its first error.
    pub fn kinds(&self) -> impl Iterator<Item = (ErrorKind, u64, &str)> {
        ErrorKind::ALL.into_iter().filter_map(|kind| {
            let count = self.counts[kind as usize];
            let detail = self.first[kind as usize].as_deref().unwrap_or_default();
            (count > 0).then_some((kind, count, detail))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_distinct_indexes_and_names() {
        let names: std::collections::HashSet<_> = ErrorKind::ALL.map(ErrorKind::name).into();
        assert_eq!(names.len(), KINDS);
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn merged_counts_add_up_and_keep_the_first_detail() {
        let mut all = ErrorCounts::default();
        all.add(RequestError::new(ErrorKind::Reset, "first"));
        let mut more = ErrorCounts::default();
        more.add(RequestError::new(ErrorKind::Reset, "second"));
        more.add(ErrorKind::Corrupt.into());
        more.add_many(ErrorKind::NotStarted, 7);
        all.merge(&more);
        assert_eq!(all.total(), 10);
        let merged: Vec<_> = all.kinds().collect();
        assert_eq!(
            merged,
            [
                (ErrorKind::Reset, 2, "first"),
                (ErrorKind::Corrupt, 1, ""),
                (ErrorKind::NotStarted, 7, "")
            ]
        );
    }
}
