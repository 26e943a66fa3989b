//! The packet log: a record per datagram, kept on disk until the run is over. 32 bytes each, in an unnamed temporary file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// Bytes of a record.
const RECORD: usize = 32;

/// Buffer of a log, in bytes.
pub const BUFFER: usize = 1 << 18;

/// Buffer of a log that is one of very many, in bytes.
pub const SMALL_BUFFER: usize = 1 << 14;

/// When a datagram was sent and received, in ns of the receiver's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRecord {
    /// Sequence number in the stream.
    pub sequence: u64,
    /// The sender's stamp.
    pub sent: u64,
    /// The receiver's stamp.
    pub received: u64,
    /// How late the datagram was sent; 0 unless the run is paced.
    pub lateness: u64,
}

/// Records being written.
#[derive(Debug)]
pub struct PacketLog {
    file: BufWriter<File>,
    buffer: usize,
    records: u64,
    most: u64,
    /// Records beyond the limit, or that the disk had no space for.
    omitted: u64,
}

impl PacketLog {
    /// Keeps at most `most` records, and writes them in blocks of `buffer` bytes.
    ///
    /// # Errors
    /// When a temporary file cannot be created.
    pub fn new(most: u64, buffer: usize) -> io::Result<Self> {
        let file = BufWriter::with_capacity(buffer, tempfile::tempfile()?);
        Ok(Self {
            file,
            buffer,
            records: 0,
            most,
            omitted: 0,
        })
    }

    /// Adds a record. A record beyond the limit, or that the disk has no space for, is counted as omitted, and so are all that follow.
    #[inline]
    pub fn push(&mut self, record: PacketRecord) {
        if self.omitted > 0 || self.records >= self.most {
            self.omitted += 1;
            return;
        }
        let mut bytes = [0; RECORD];
        for (place, word) in bytes.chunks_exact_mut(8).zip([
            record.sequence,
            record.sent,
            record.received,
            record.lateness,
        ]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        match self.file.write_all(&bytes) {
            Ok(()) => self.records += 1,
            Err(_) => self.omitted += 1,
        }
    }

    /// The records in the order in which they were added, as far as they can be read back.
    ///
    /// # Errors
    /// When the file cannot be rewound.
    pub fn into_records(self) -> io::Result<PacketRecords> {
        let (file, unwritten) = self.file.into_parts();
        let mut file = file;
        let buffer = self.buffer;
        // The rest of the buffer is written here, so that records the disk has no space for are known.
        let rest = unwritten.unwrap_or_default();
        let kept = if file.write_all(&rest).is_ok() {
            self.records
        } else {
            file.stream_position()? / RECORD as u64
        };
        file.seek(SeekFrom::Start(0))?;
        let omitted = self.omitted + (self.records - kept.min(self.records));
        Ok(PacketRecords {
            file: BufReader::with_capacity(buffer, file),
            left: kept.min(self.records),
            omitted,
        })
    }
}

/// Records being read back.
#[derive(Debug)]
pub struct PacketRecords {
    file: BufReader<File>,
    left: u64,
    omitted: u64,
}

impl PacketRecords {
    /// Records that were not kept.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }
}

impl Iterator for PacketRecords {
    type Item = PacketRecord;

    fn next(&mut self) -> Option<PacketRecord> {
        self.left = self.left.checked_sub(1)?;
        let mut bytes = [[0; 8]; 4];
        self.file.read_exact(bytes.as_flattened_mut()).ok()?;
        let [sequence, sent, received, lateness] = bytes.map(u64::from_le_bytes);
        Some(PacketRecord {
            sequence,
            sent,
            received,
            lateness,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_up_to_the_limit_are_read_back_in_order() {
        let record = |n| PacketRecord {
            sequence: n,
            sent: n * 2,
            received: n * 3,
            lateness: n * 4,
        };
        let mut packet_log = PacketLog::new(50_000, BUFFER).unwrap();
        (0..50_003).for_each(|n| packet_log.push(record(n)));
        let records = packet_log.into_records().unwrap();
        assert_eq!(records.omitted(), 3);
        assert!(records.eq((0..50_000).map(record)));
    }
}
