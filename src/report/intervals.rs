//! `intervals.csv`: what the receiver saw, stretch of time by stretch of time.
//!
//! Each row is out as soon as it is written, so that the file can be followed while the run goes on.

use std::fmt::Display;
use std::io::{self, Write};

use super::record::Interval;

/// The columns. Others are only ever added at the end.
pub const COLUMNS: [&str; 12] = [
    "run",
    "start_s",
    "seconds",
    "packets",
    "bytes",
    "kb_per_s",
    "missing",
    "duplicates",
    "reordered",
    "latency_p50_ns",
    "latency_p99_ns",
    "latency_max_ns",
];

/// Writes the rows one by one.
#[derive(Debug)]
pub struct IntervalsWriter<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> IntervalsWriter<W> {
    /// Writes the header to `out`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        writeln!(out, "{}", COLUMNS.join(","))?;
        out.flush()?;
        let line = Vec::new();
        Ok(Self { out, line })
    }

    /// Writes one row of the run with number `run`, counted from 0.
    ///
    /// # Errors
    /// Those of `out`; the file may end within a row then.
    pub fn row(&mut self, run: usize, interval: &Interval) -> io::Result<()> {
        let Interval {
            start_s,
            seconds,
            packets,
            bytes,
            kb_per_s,
            missing,
            duplicates,
            reordered,
            latency_p50_ns: p50,
            latency_p99_ns: p99,
            latency_max_ns: max,
        } = interval;
        let (start, seconds, rate) = (figure(*start_s), figure(*seconds), figure(*kb_per_s));
        let (p50, p99, max) = (cell(*p50), cell(*p99), cell(*max));
        self.line.clear();
        writeln!(
            self.line,
            "{run},{start},{seconds},{packets},{bytes},{rate},{missing},{duplicates},{reordered},{p50},{p99},{max}"
        )?;
        self.out.write_all(&self.line)?;
        self.out.flush()
    }

    /// Gives back what it wrote to, everything written out.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The text of a cell; empty for what is missing.
fn cell(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// As [`cell`]; what is no number (0/0 of an interval without length) is missing too.
fn figure(value: f64) -> String {
    cell(value.is_finite().then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn rows_stand_under_their_columns() {
        let mut writer = IntervalsWriter::new(Vec::new()).unwrap();
        writer.row(0, &sample::interval()).unwrap();
        let missing = Interval {
            kb_per_s: f64::NAN,
            ..Interval::default()
        };
        writer.row(1, &missing).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "run,start_s,seconds,packets,bytes,kb_per_s,missing,duplicates,reordered,\
             latency_p50_ns,latency_p99_ns,latency_max_ns\n\
             0,1,1,700001,700000000,700000,-3,1,2,12345,4560000,9870000\n\
             1,0,0,0,0,,0,0,0,,,\n"
        );
    }

    #[test]
    fn a_full_disk_is_told_at_the_row() {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let told = IntervalsWriter::new(full.unwrap()).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::StorageFull);
    }
}
