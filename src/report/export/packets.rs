//! `packets.csv`: one row per received datagram.
//!
//! Rows are written during the run, so a row must cost tens of ns only: integers go into one buffer without formatting or
//! allocation, and the buffer is written in blocks of 64 KiB.

use std::io::{self, Write};

use super::column::Column;
use super::columns::{PACKET, RUN_NUMBER};

/// Size of a block, in bytes.
const BLOCK: usize = 64 << 10;

/// Longest row: seven numbers of at most 20 characters, a sign, commas and the end of the line.
const LONGEST_ROW: usize = 7 * 20 + 1 + 7;

/// A received datagram. Stamps are in ns; with estimated clocks, both of the receiver's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRow {
    /// Number of the socket pair, from 0.
    pub stream: usize,
    /// Sequence number, from 0 in each stream.
    pub sequence: u64,
    /// Time of the send.
    pub sent_ns: u64,
    /// Time of the arrival.
    pub received_ns: u64,
    /// Both stamps are of one clock; otherwise the latency is unknown.
    pub clocks_related: bool,
    /// When the datagram was due; `None` unless the run is paced.
    pub intended_ns: Option<u64>,
}

/// Writes the rows one by one. Without [`Self::finish`] the last rows are missing.
#[derive(Debug)]
pub struct PacketsWriter<W: Write> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> PacketsWriter<W> {
    /// Writes the header to `out`, which needs no buffer.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        write!(out, "{}", RUN_NUMBER.name)?;
        for Column { name, .. } in PACKET {
            write!(out, ",{name}")?;
        }
        writeln!(out)?;
        out.flush()?;
        let block = Vec::with_capacity(BLOCK + LONGEST_ROW);
        Ok(Self { out, block })
    }

    /// Adds a row of run number `run`: the columns of [`PACKET`], without going through cells.
    ///
    /// # Errors
    /// Those of `out`, for this row or earlier ones. The rows of the block are then lost, and the file may end within a row.
    #[inline]
    pub fn row(&mut self, run: usize, packet: &PacketRow) -> io::Result<()> {
        let &PacketRow {
            stream,
            sequence,
            sent_ns,
            received_ns,
            clocks_related,
            intended_ns,
        } = packet;
        for number in [run as u64, stream as u64, sequence, sent_ns, received_ns] {
            push(&mut self.block, number);
            self.block.push(b',');
        }
        if clocks_related {
            if received_ns < sent_ns {
                self.block.push(b'-');
            }
            push(&mut self.block, received_ns.abs_diff(sent_ns));
        }
        self.block.push(b',');
        if let Some(intended_ns) = intended_ns {
            push(&mut self.block, intended_ns);
        }
        self.block.push(b'\n');
        if self.block.len() < BLOCK {
            return Ok(());
        }
        self.write_block()
    }

    /// Writes the last block, so that the rows of a finished run are complete.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_block()?;
        self.out.flush()
    }

    /// Writes the last block and returns the output.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        let done = self.out.write_all(&self.block);
        // Also after an error, or the block would grow with each further row.
        self.block.clear();
        done
    }
}

/// Appends the decimal digits of `number`.
#[inline]
fn push(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;

    fn packet(sequence: u64, sent_ns: u64, received_ns: u64) -> PacketRow {
        PacketRow {
            stream: 1,
            sequence,
            sent_ns,
            received_ns,
            clocks_related: true,
            intended_ns: None,
        }
    }

    #[test]
    fn arrival_before_the_send_has_a_negative_latency() {
        let mut writer = PacketsWriter::new(Vec::new()).unwrap();
        writer.row(0, &packet(7, 1_000, 1_850)).unwrap();
        let paced = PacketRow {
            intended_ns: Some(990),
            ..packet(8, u64::MAX, 0)
        };
        writer.row(3, &paced).unwrap();
        assert_eq!(
            String::from_utf8(writer.finish().unwrap()).unwrap(),
            "run,stream,sequence,sent_ns,received_ns,latency_ns,intended_ns\n\
             0,1,7,1000,1850,850,\n\
             3,1,8,18446744073709551615,0,-18446744073709551615,990\n"
        );
    }

    #[test]
    fn latency_is_empty_if_the_clocks_are_unrelated() {
        let mut writer = PacketsWriter::new(Vec::new()).unwrap();
        let unrelated = PacketRow {
            clocks_related: false,
            ..packet(7, 1_000, 1_850)
        };
        writer.row(0, &unrelated).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        assert!(text.ends_with("\n0,1,7,1000,1850,,\n"), "{text}");
    }

    #[test]
    fn blocks_join_without_a_gap() {
        let mut writer = PacketsWriter::new(Vec::new()).unwrap();
        for n in 0..10_000 {
            writer.row(0, &packet(n, n, n + 5)).unwrap();
        }
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        for (n, row) in text.lines().skip(1).enumerate() {
            assert_eq!(row, format!("0,1,{n},{n},{},5,", n + 5));
        }
        assert_eq!(text.lines().count(), 10_001);
    }

    #[test]
    fn full_disk_is_an_error_and_the_buffer_stays_small() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let block = Vec::new();
        let mut writer = PacketsWriter { out: full, block };
        let failed = (0..100_000).filter(|&n| writer.row(0, &packet(n, n, n)).is_err());
        assert!(failed.count() > 1);
        assert!(writer.block.capacity() < 4 * BLOCK);
        assert!(writer.finish().is_err());
    }

    proptest! {
        #[test]
        fn rows_are_the_cells_of_the_columns(run: usize, stream: usize, sequence: u64, sent_ns: u64, received_ns: u64, clocks_related: bool, intended_ns: Option<u64>) {
            let packet = PacketRow { stream, sequence, sent_ns, received_ns, clocks_related, intended_ns };
            let mut writer = PacketsWriter::new(Vec::new()).unwrap();
            writer.row(run, &packet).unwrap();
            let cells = PACKET.iter().map(|column| (column.get)(&packet).to_string());
            let row: Vec<String> = [run.to_string()].into_iter().chain(cells).collect();
            let text = String::from_utf8(writer.finish().unwrap()).unwrap();
            prop_assert_eq!(text.lines().nth(1), Some(&*row.join(",")));
        }

        #[test]
        fn digits_are_those_of_the_number(number: u64) {
            let mut text = Vec::new();
            push(&mut text, number);
            prop_assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}
