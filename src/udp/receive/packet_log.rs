//! A row a packet, kept on disk until the run is over: 24 bytes each, in a temporary file without a name.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

const ROW: usize = 24;

/// When one datagram was sent and received, in ns of the receiver's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number in the stream.
    pub sequence: u64,
    /// The sender's stamp.
    pub sent: u64,
    /// The receiver's.
    pub received: u64,
}

/// Rows being written.
#[derive(Debug)]
pub struct Spool {
    file: BufWriter<File>,
    rows: u64,
    most: u64,
    /// Rows there was no room for.
    omitted: u64,
}

impl Spool {
    /// Keeps at most `most` rows.
    ///
    /// # Errors
    /// When there is no temporary file to be had.
    pub fn new(most: u64) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 18, tempfile::tempfile()?);
        Ok(Self {
            file,
            rows: 0,
            most,
            omitted: 0,
        })
    }

    /// Adds a row. One that finds no room, in the limit or on the disk, is counted as omitted, and so are all after it.
    #[inline]
    pub fn push(&mut self, row: Row) {
        if self.omitted > 0 || self.rows >= self.most {
            self.omitted += 1;
            return;
        }
        let mut bytes = [0; ROW];
        for (place, word) in bytes
            .chunks_exact_mut(8)
            .zip([row.sequence, row.sent, row.received])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        match self.file.write_all(&bytes) {
            Ok(()) => self.rows += 1,
            Err(_) => self.omitted += 1,
        }
    }

    /// The rows in the order they were pushed, as far as they can be read back, and how many were omitted.
    ///
    /// # Errors
    /// When the file cannot be rewound.
    pub fn into_rows(self) -> io::Result<Rows> {
        let (file, unwritten) = self.file.into_parts();
        let mut file = file;
        // What the buffer still holds is written here, to know how much of it found room.
        let rest = unwritten.unwrap_or_default();
        let kept = if file.write_all(&rest).is_ok() {
            self.rows
        } else {
            file.stream_position()? / ROW as u64
        };
        file.seek(SeekFrom::Start(0))?;
        let omitted = self.omitted + (self.rows - kept.min(self.rows));
        Ok(Rows {
            file: BufReader::with_capacity(1 << 18, file),
            left: kept.min(self.rows),
            omitted,
        })
    }
}

/// Rows being read back.
#[derive(Debug)]
pub struct Rows {
    file: BufReader<File>,
    left: u64,
    omitted: u64,
}

impl Rows {
    /// Rows there was no room for.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.left = self.left.checked_sub(1)?;
        let mut bytes = [[0; 8]; 3];
        self.file.read_exact(bytes.as_flattened_mut()).ok()?;
        let [sequence, sent, received] = bytes.map(u64::from_le_bytes);
        Some(Row {
            sequence,
            sent,
            received,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_order_up_to_the_limit() {
        let row = |n| Row {
            sequence: n,
            sent: n * 2,
            received: n * 3,
        };
        let mut spool = Spool::new(50_000).unwrap();
        (0..50_003).for_each(|n| spool.push(row(n)));
        let rows = spool.into_rows().unwrap();
        assert_eq!(rows.omitted(), 3);
        assert!(rows.eq((0..50_000).map(row)));
    }
}
