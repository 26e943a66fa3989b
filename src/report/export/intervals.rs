//! `intervals.csv`: the receiver's counts, interval by interval.
//!
//! Each row is flushed when it is written, so that the file can be followed during a run.

use std::io::{self, Write};

use super::column::{Cell, Column};
use super::columns::{INTERVAL, RUN_NUMBER};
use crate::udp::result::Interval;

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
        write!(out, "{}", RUN_NUMBER.name)?;
        for Column { name, .. } in INTERVAL {
            write!(out, ",{name}")?;
        }
        writeln!(out)?;
        out.flush()?;
        let line = Vec::new();
        Ok(Self { out, line })
    }

    /// Writes a row of run number `run`.
    ///
    /// # Errors
    /// Those of `out`; the file may then end within a row.
    pub fn row(&mut self, run: usize, interval: &Interval) -> io::Result<()> {
        self.line.clear();
        // All cells are numbers, so none needs quotes.
        write!(self.line, "{}", (RUN_NUMBER.get)(&run))?;
        for column in INTERVAL {
            let cell: Cell = (column.get)(interval);
            write!(self.line, ",{cell}")?;
        }
        self.line.push(b'\n');
        self.out.write_all(&self.line)?;
        self.out.flush()
    }

    /// Flushes, and returns the output.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::udp as sample;

    #[test]
    fn rows_are_in_the_order_of_the_header() {
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
             latency_p50_ns,latency_p99_ns,latency_max_ns,ce\n\
             0,1,1,700001,700000000,700000,-3,1,2,12345,4560000,9870000,4\n\
             1,0,0,0,0,,0,0,0,,,,\n"
        );
    }

    #[test]
    fn full_disk_is_an_error_at_the_row() {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let error = IntervalsWriter::new(full.unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
