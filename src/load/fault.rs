//! How a request fails, and how often each of that happened.

use std::io::{self, ErrorKind};

/// The kinds, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody listens.
    ConnectRefused,
    /// There is no way there, or the connection broke before it was one.
    ConnectFailed,
    /// This host has no more ports, files or memory.
    Local,
    /// The proxy said in its protocol that it will not, or could not.
    RefusedByProxy,
    /// What the proxy said is not its protocol.
    BadReply,
    /// What it should have refused, it did not.
    NotRefused,
    /// The answer was not complete in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The connection ended before the answer did.
    ClosedEarly,
    /// The answer is another one.
    Corrupt,
    /// The answer is right, but the connection did not end after it.
    NotClosed,
    /// Its time came, and until the end of the run there was no connection free to send it on.
    NotStarted,
}

/// How many kinds there are.
const KINDS: usize = 12;

impl Fault {
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

/// One failure, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub fault: Fault,
    /// What happened; empty where the kind says it all.
    pub detail: String,
}

impl Failure {
    /// Of this kind, in these words.
    pub fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self {
            fault,
            detail: detail.into(),
        }
    }

    /// Of a socket, `open` once its connection was there.
    pub fn of_socket(error: &io::Error, open: bool) -> Self {
        let fault = match error.kind() {
            ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory | ErrorKind::PermissionDenied => {
                Fault::Local
            }
            // EMFILE and ENFILE have no kind of their own.
            _ if matches!(error.raw_os_error(), Some(libc::ENFILE | libc::EMFILE)) => Fault::Local,
            ErrorKind::ConnectionRefused => Fault::ConnectRefused,
            _ if !open => Fault::ConnectFailed,
            // ETIMEDOUT: what was sent is not acknowledged any more.
            ErrorKind::TimedOut => Fault::Timeout,
            _ => Fault::Reset,
        };
        Self::new(fault, error.to_string())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(fault, "")
    }
}

/// How often each kind happened, and the first of each in words.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    counts: [u64; KINDS],
    first: [Option<String>; KINDS],
}

impl Errors {
    /// Counts one.
    pub fn add(&mut self, failure: Failure) {
        let kind = failure.fault as usize;
        self.counts[kind] += 1;
        self.first[kind].get_or_insert(failure.detail);
    }

    /// Counts `more` of a kind.
    pub fn add_many(&mut self, fault: Fault, more: u64) {
        self.counts[fault as usize] += more;
    }

    /// Takes in what another counted.
    pub fn merge(&mut self, other: &Self) {
        for kind in 0..KINDS {
            self.counts[kind] += other.counts[kind];
            if self.first[kind].is_none() {
                self.first[kind].clone_from(&other.first[kind]);
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Those of a kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// Each kind that there is any of: its count, and the first in words.
    pub fn kinds(&self) -> impl Iterator<Item = (Fault, u64, &str)> {
        Fault::ALL.into_iter().filter_map(|fault| {
            let kind = fault as usize;
            let detail = self.first[kind].as_deref().unwrap_or_default();
            (self.counts[kind] > 0).then_some((fault, self.counts[kind], detail))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_place_and_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Fault::ALL.map(Fault::name).into();
        assert_eq!(names.len(), KINDS);
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
        }
    }

    #[test]
    fn what_is_counted_in_parts_is_counted_once_and_the_first_words_are_kept() {
        let mut all = Errors::default();
        all.add(Failure::new(Fault::Reset, "first"));
        let mut more = Errors::default();
        more.add(Failure::new(Fault::Reset, "second"));
        more.add(Fault::Corrupt.into());
        more.add_many(Fault::NotStarted, 7);
        all.merge(&more);
        assert_eq!(all.total(), 10);
        let told: Vec<_> = all.kinds().collect();
        assert_eq!(
            told,
            [
                (Fault::Reset, 2, "first"),
                (Fault::Corrupt, 1, ""),
                (Fault::NotStarted, 7, "")
            ]
        );
    }
}
