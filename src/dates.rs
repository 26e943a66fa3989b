//! Instants as people and files write them, always in UTC.

use jiff::Timestamp;

/// RFC 3339 with all nine decimals, from ns since the epoch: `2026-11-22T14:05:01.123456789Z`.
pub fn rfc3339(ns: u64) -> String {
    format!("{:.9}", timestamp(ns))
}

/// RFC 3339 to the second, for a reader: `2026-11-22T14:05:01Z`.
pub fn rfc3339_second(ns: u64) -> String {
    timestamp(ns).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// To the second and fit for a file name, from ns since the epoch: `20261122T140501Z`. Sorts by time.
pub fn compact(ns: u64) -> String {
    timestamp(ns).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// As in mail and HTTP, from ns since the epoch: `Sun, 22 Nov 2026 14:05:01 GMT` (RFC 1123).
pub fn rfc1123(ns: u64) -> String {
    timestamp(ns)
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

/// The ns since the epoch of an RFC 3339 instant; `None` if it is not one, or before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let instant: Timestamp = text.parse().ok()?;
    u64::try_from(instant.as_nanosecond()).ok()
}

fn timestamp(ns: u64) -> Timestamp {
    // Cannot fail: 64 bits of ns end in 2554, jiff's range in 9999.
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_instant_reads_as_its_date() {
        let ns = 1_795_356_301_123_456_789;
        assert_eq!(rfc3339(ns), "2026-11-22T14:05:01.123456789Z");
        assert_eq!(compact(ns), "20261122T140501Z");
        assert_eq!(rfc1123(ns), "Sun, 22 Nov 2026 14:05:01 GMT");
        assert_eq!(rfc3339_second(ns), "2026-11-22T14:05:01Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }

    proptest! {
        #[test]
        fn no_nanosecond_is_lost(ns: u64) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(ns)), Some(ns));
        }
    }
}
