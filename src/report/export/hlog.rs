//! The interval log of HdrHistogram: a line with the latencies of each interval, as compressed histograms in base64.
//!
//! Values are ns. Times of lines are seconds since the `BaseTime` of the header. Each line is flushed, so that the log can be
//! followed during a run.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use crate::report::model::Distributed;
use crate::stats::latency::Latency;

/// The first line of the format: <https://github.com/HdrHistogram/HdrHistogram>, `HistogramLogWriter`.
const VERSION: &str = "[Histogram log format version 1.3]";

/// The names of the columns, after the header.
const LEGEND: &str =
    r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// Writes a log line by line.
pub struct HlogWriter<W: Write> {
    out: W,
    serializer: V2DeflateSerializer,
    /// Start of the log, in ns since the epoch.
    base_ns: u64,
}

impl<W: Write> HlogWriter<W> {
    /// Writes the header of a log that starts at `base_ns`, in ns since the epoch.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, base_ns: u64) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        let base = SystemTime::UNIX_EPOCH + Duration::from_nanos(base_ns);
        IntervalLogWriterBuilder::new()
            .add_comment(VERSION)
            .add_comment("[Written by wirebench; latencies in ns]")
            .with_start_time(base)
            .with_base_time(base)
            .begin_log_with(&mut out, &mut serializer)?;
        writeln!(out, "{LEGEND}")?;
        out.flush()?;
        Ok(Self {
            out,
            serializer,
            base_ns,
        })
    }

    /// Writes the latencies of an interval that starts at `start_ns`, in ns since the epoch. The line has no tag if `tag` is empty.
    ///
    /// # Errors
    /// Those of the output; the log may then end within a line.
    pub fn interval(
        &mut self,
        tag: &str,
        start_ns: u64,
        seconds: f64,
        latency: &Latency,
    ) -> io::Result<()> {
        let start = Duration::from_nanos(start_ns.saturating_sub(self.base_ns));
        let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let tag = Tag::new(tag).filter(|tag| !tag.is_empty());
        let mut line = Vec::new();
        // Without a header: the line alone.
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut line, &mut self.serializer)?
            .write_histogram(&latency.histogram(), start, length, tag)
            .map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            })?;
        self.out.write_all(&line)?;
        self.out.flush()
    }

    /// Writes a sentence as a comment.
    ///
    /// # Errors
    /// Those of the output.
    pub fn comment(&mut self, sentence: &str) -> io::Result<()> {
        writeln!(self.out, "#[{}]", sentence.replace(['\n', '\r'], " "))?;
        self.out.flush()
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Tags of the latencies of a run from the actual and from the intended start: the names of their histogram files. The former has no
/// tag if the command has one setting, as tools read lines without a tag by default.
pub fn tags(run: &impl Distributed, has_settings: bool) -> [String; 2] {
    let [actual, intended] = run
        .histograms()
        .map(|name| name.trim_end_matches(".hgrm").to_owned());
    match has_settings {
        true => [actual, intended],
        false => [String::new(), intended],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use proptest::prelude::*;

    use crate::stats::latency::LONGEST_NS;

    const START: u64 = 1_795_356_301_500_000_000;

    proptest! {
        #[test]
        fn logs_are_read_back_by_the_crate(
            intervals in prop::collection::vec((prop::collection::vec(0u64..=LONGEST_NS, 0..50), "[a-z]{0,3}"), 0..6),
        ) {
            let mut log = HlogWriter::new(Vec::new(), START).unwrap();
            for (number, (values, tag)) in intervals.iter().enumerate() {
                let mut latency = Latency::new();
                values.iter().for_each(|&ns| latency.record(ns));
                log.interval(tag, START + number as u64 * 1_000_000_000, 0.5, &latency).unwrap();
            }
            log.comment("one\ncomment").unwrap();
            let text = log.into_inner();
            let entries: Vec<_> = IntervalLogIterator::new(&text).map(Result::unwrap).collect();
            let mut read = entries.iter().filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            });
            for (number, (values, tag)) in intervals.iter().enumerate() {
                let line = read.next().unwrap();
                prop_assert_eq!(line.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(), tag.clone());
                prop_assert_eq!(line.start_timestamp(), Duration::from_secs(number as u64));
                prop_assert_eq!(line.duration(), Duration::from_millis(500));
                let bytes = base64_decoded(line.encoded_histogram());
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                prop_assert_eq!(histogram.len(), values.len() as u64);
                let most = values.iter().max().copied().unwrap_or(0);
                prop_assert!(histogram.equivalent(histogram.max(), most));
            }
            prop_assert!(read.next().is_none());
        }
    }

    /// Decodes base64 with padding (RFC 4648, section 4).
    fn base64_decoded(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
        for digit in text.bytes().filter(|byte| *byte != b'=') {
            let value = ALPHABET.iter().position(|of| *of == digit).unwrap();
            bits = bits << 6 | value as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
                bits &= (1 << count) - 1;
            }
        }
        bytes
    }

    #[test]
    fn log_begins_with_its_version_its_times_and_the_legend() {
        let log = HlogWriter::new(Vec::new(), START).unwrap();
        let text = String::from_utf8(log.into_inner()).unwrap();
        assert_eq!(
            text,
            "#[Histogram log format version 1.3]\n\
             #[Written by wirebench; latencies in ns]\n\
             #[StartTime: 1795356301.500 (seconds since epoch)]\n\
             #[BaseTime: 1795356301.500 (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        );
    }
}
