//! Ports: one, a range, or all.

use std::fmt;

use thiserror::Error;

use crate::destination::HostError;
use crate::destination::authority::parse_port;
use crate::destination::error::quoted;

/// Why a text is not a port or a range of ports.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PortsError {
    /// Not a port.
    #[error(transparent)]
    Port(#[from] HostError),
    /// The last port is lower than the first.
    #[error("the ports {0} end before they begin; write the lower one first")]
    Backwards(String),
}

/// A range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// One port.
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Parses `443` or `8000-8099`.
    ///
    /// # Errors
    /// [`PortsError`].
    pub fn parse(text: &str) -> Result<Self, PortsError> {
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self::one(parse_port(text)?));
        };
        let (first, last) = (parse_port(first)?, parse_port(last)?);
        if first > last {
            return Err(PortsError::Backwards(quoted(text)));
        }
        Ok(Self { first, last })
    }

    /// Whether the ranges share a port.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether this range includes the other.
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_strictly() {
        assert_eq!(Ports::parse("443"), Ok(Ports::one(443)));
        let range = Ports::parse("1-65535").unwrap();
        assert_eq!(range.to_string(), "1-65535");
        for text in [
            "", "0", "080", "65536", "+1", "-1", "1-", " 1", "１", "0x50", "1-2-3",
        ] {
            assert!(
                matches!(
                    Ports::parse(text),
                    Err(PortsError::Port(HostError::Port(_)))
                ),
                "{text}"
            );
        }
        assert!(matches!(Ports::parse("9-8"), Err(PortsError::Backwards(_))));
    }

    #[test]
    fn ranges_overlap_at_their_ends() {
        let ports = |text| Ports::parse(text).unwrap();
        assert!(ports("10-20").overlaps(ports("20-30")));
        assert!(!ports("10-20").overlaps(ports("21")));
        assert!(ports("10-20").covers(ports("10-20")) && !ports("10-20").covers(ports("9-20")));
        assert!(Ports::ALL.covers(Ports::one(0)) && !ports("80").covers(Ports::ALL));
    }
}
