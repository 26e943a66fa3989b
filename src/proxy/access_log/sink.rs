//! Writes lines. A line that was written in part is ended before the next.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

/// The delay before another attempt if there is no room. Needed only if another program has made standard output
/// non-blocking.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Sink<W> {
    out: W,
    /// The output ends within a line.
    torn: bool,
}

/// A write that failed in part.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// Lines that are incomplete or missing.
    pub(super) lines: u64,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, torn: false }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.torn {
            self.all(b"\n").map_err(|(_, error)| failed(lines, error))?;
            self.torn = false;
        }
        self.all(lines).map_err(|(written, error)| {
            let (there, missing) = lines.split_at_checked(written).unwrap_or_default();
            self.torn = there.last().is_some_and(|byte| *byte != b'\n');
            failed(missing, error)
        })
    }

    fn all(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = bytes.get(written..) {
            match self.out.write(rest) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(some) => written += some,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => thread::sleep(PAUSE),
                    _ => return Err((written, error)),
                },
            }
        }
        Ok(())
    }
}

fn failed(missing: &[u8], error: io::Error) -> Failed {
    Failed {
        error,
        lines: missing.iter().filter(|byte| **byte == b'\n').count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.room.min(bytes.len()) {
                0 => Err(ErrorKind::StorageFull.into()),
                some => {
                    self.room -= some;
                    self.bytes.extend_from_slice(&bytes[..some]);
                    Ok(some)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        for (room, lost, after) in [
            (0, 3, "four\n"),
            (1, 3, "o\nfour\n"),
            (3, 3, "one\nfour\n"),
            (4, 2, "one\nfour\n"),
            (9, 1, "one\ntwo\nt\nfour\n"),
            (14, 0, "one\ntwo\nthree\nfour\n"),
        ] {
            let mut sink = Sink::new(Disk {
                bytes: Vec::new(),
                room,
            });
            let failed = sink.write(b"one\ntwo\nthree\n");
            assert_eq!(failed.map_or_else(|failed| failed.lines, |()| 0), lost);
            // Still full: nothing changes.
            assert_eq!(sink.write(b"four\n").unwrap_err().lines, 1);
            sink.out.room = 100;
            sink.write(b"four\n").unwrap();
            assert_eq!(String::from_utf8(sink.out.bytes).unwrap(), after, "{room}");
        }
    }
}
