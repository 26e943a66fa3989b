//! Buffers for bytes that a sink did not accept, reused by the connections of a thread.

/// Most idle buffers.
const MAX_IDLE: usize = 16;

/// Idle buffers, all empty.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Vec<Vec<u8>>);

impl BufferPool {
    /// An idle buffer, or a new one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Returns a buffer to the pool.
    pub(super) fn release(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.0.len() < MAX_IDLE {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
