//! The part that records of all kinds share: schema, command and machine.

use serde::{Deserialize, Serialize};

use crate::dates;
use crate::sys::machine;

/// Version of the keys in `run.json`.
pub const SCHEMA: u32 = 1;

/// Largest number of runs in a record. A record is held in memory and read back as a whole.
pub const MOST_RUNS: usize = 10_000;

/// Command, version and machine of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `udp`, `udp-search`, `proxy` or `doctor`.
    pub kind: String,
    /// Version of the wirebench that wrote the record.
    pub wirebench: String,
    /// Start of the command, RFC 3339 in UTC.
    pub started_at: String,
    /// The command line.
    pub command: Vec<String>,
    /// The machine; of two, the load generator's or the sender's.
    pub host: Host,
}

impl Meta {
    /// A record of `kind` by this program on this machine, for a command that started at `started_ns` (ns since the epoch).
    pub fn here(kind: &str, started_ns: u64, command: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            kind: kind.to_owned(),
            wirebench: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: dates::rfc3339(started_ns),
            command,
            host: Host::here(),
        }
    }

    /// `started_at` to the second.
    pub fn started(&self) -> String {
        match dates::parse_rfc3339(&self.started_at) {
            Some(ns) => dates::rfc3339_second(ns),
            None => self.started_at.clone(),
        }
    }

    /// The command as a shell reads it, without the folder of the program.
    pub fn command_line(&self) -> String {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:,=%+@".contains(char);
        let words = self.command.iter().enumerate().map(|(at, word)| {
            let word = match word.rsplit_once('/') {
                Some((_, name)) if at == 0 => name,
                _ => word,
            };
            match word.chars().all(is_plain) {
                true if !word.is_empty() => word.to_owned(),
                _ => format!("'{}'", word.replace('\'', r"'\''")),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// CPU model name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// CPU frequency governor; null without one.
    pub governor: Option<String>,
    /// Largest unprivileged receive buffer, in bytes.
    pub rmem_max: Option<u64>,
    /// Largest unprivileged send buffer, in bytes.
    pub wmem_max: Option<u64>,
}

impl Host {
    /// This machine.
    pub fn here() -> Self {
        Self {
            kernel: machine::kernel(),
            cpu: machine::cpu_model(),
            cores: machine::cores(),
            governor: machine::governor(),
            rmem_max: machine::rmem_max(),
            wmem_max: machine::wmem_max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_quoted_for_a_shell() {
        let words = ["/opt/bench", "udp", "--out", "my/results here", "", "it's"];
        let meta = Meta::here("udp", 1_000_000_007, words.map(str::to_owned).into());
        assert_eq!(
            meta.command_line(),
            r"bench udp --out 'my/results here' '' 'it'\''s'"
        );
        assert_eq!(meta.started(), "1970-01-01T00:00:01Z");
    }
}
