//! Buffers for bytes that a sink did not take, kept by a thread for the next connection that needs one.

/// Buffers kept at most.
const MOST: usize = 16;

/// Buffers that are empty.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// One of them, or a new one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps `buffer`, unless there are enough.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.0.len() < MOST {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
