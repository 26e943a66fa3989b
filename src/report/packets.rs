//! `packets.csv`: one row a datagram received, the exercise's list of times.
//!
//! Written while the run goes on, so a row costs tens of ns: integers are put into one buffer that
//! is handed on by the 64 KiB, without going through formatting or an allocation.

use std::io::{self, Write};

/// The columns. Others are only ever added at the end.
pub const COLUMNS: [&str; 6] = [
    "run",
    "stream",
    "sequence",
    "sent_ns",
    "received_ns",
    "latency_ns",
];

/// How much is handed on at once, in bytes.
const BLOCK: usize = 64 << 10;

/// The longest row: six numbers of at most 20 characters, a sign, commas and the line's end.
const LONGEST_ROW: usize = 6 * 20 + 1 + 6;

/// One datagram. Both stamps are in ns of one clock, so that they can be subtracted: where the two
/// hosts' clocks were estimated, the receiver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRow {
    /// The socket pair, counted from 0.
    pub stream: usize,
    /// Its sequence number, counted from 0 in each stream.
    pub sequence: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When it was received.
    pub received_ns: u64,
    /// Whether both stamps are in one clock. Otherwise the latency is unknown, and its column empty.
    pub clocks_related: bool,
}

/// Writes the rows one by one. Without [`Self::finish`] the last ones are missing.
#[derive(Debug)]
pub struct PacketsWriter<W: Write> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> PacketsWriter<W> {
    /// Writes the header to `out`, which needs no buffer of its own.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        writeln!(out, "{}", COLUMNS.join(","))?;
        out.flush()?;
        let block = Vec::with_capacity(BLOCK + LONGEST_ROW);
        Ok(Self { out, block })
    }

    /// Adds one row of the run with number `run`, counted from 0.
    ///
    /// # Errors
    /// Those of `out`, for this row or ones before it. The rows not yet handed on are lost then and
    /// the file may end within a row.
    #[inline]
    pub fn row(&mut self, run: usize, packet: &PacketRow) -> io::Result<()> {
        let &PacketRow {
            stream,
            sequence,
            sent_ns,
            received_ns,
            clocks_related,
        } = packet;
        for number in [run as u64, stream as u64, sequence, sent_ns, received_ns] {
            push(&mut self.block, number);
            self.block.push(b',');
        }
        if clocks_related {
            // Below zero when the estimate of the clocks' offset is wrong by more than the way takes.
            if received_ns < sent_ns {
                self.block.push(b'-');
            }
            push(&mut self.block, received_ns.abs_diff(sent_ns));
        }
        self.block.push(b'\n');
        if self.block.len() < BLOCK {
            return Ok(());
        }
        self.hand_on()
    }

    /// Writes out what is left, so that the rows of a run that is over are whole.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.out.flush()
    }

    /// As [`Self::flush`], and gives back what it wrote to.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let done = self.out.write_all(&self.block);
        // Also after an error, or the block would grow with every row that follows.
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
        }
    }

    #[test]
    fn a_packet_before_its_time_has_a_negative_latency() {
        let mut writer = PacketsWriter::new(Vec::new()).unwrap();
        writer.row(0, &packet(7, 1_000, 1_850)).unwrap();
        writer.row(3, &packet(8, u64::MAX, 0)).unwrap();
        assert_eq!(
            String::from_utf8(writer.finish().unwrap()).unwrap(),
            "run,stream,sequence,sent_ns,received_ns,latency_ns\n\
             0,1,7,1000,1850,850\n\
             3,1,8,18446744073709551615,0,-18446744073709551615\n"
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
        assert!(text.ends_with("\n0,1,7,1000,1850,\n"), "{text}");
    }

    #[test]
    fn blocks_join_without_a_seam() {
        let mut writer = PacketsWriter::new(Vec::new()).unwrap();
        for n in 0..10_000 {
            writer.row(0, &packet(n, n, n + 5)).unwrap();
        }
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        for (n, row) in text.lines().skip(1).enumerate() {
            assert_eq!(row, format!("0,1,{n},{n},{},5", n + 5));
        }
        assert_eq!(text.lines().count(), 10_001);
    }

    #[test]
    fn a_full_disk_is_told_and_the_buffer_stays_small() {
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
        fn digits_are_those_of_the_number(number: u64) {
            let mut text = Vec::new();
            push(&mut text, number);
            prop_assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}
