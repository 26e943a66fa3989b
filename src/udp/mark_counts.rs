//! Counts of the marks that routers on the path may change: DSCP and ECN.

/// Datagrams by the TOS byte that they arrived with.
#[derive(Debug, Clone)]
pub struct MarkCounts(Box<[u64; 256]>);

impl Default for MarkCounts {
    fn default() -> Self {
        Self(Box::new([0; 256]))
    }
}

impl MarkCounts {
    /// Adds datagrams that arrived with this TOS byte.
    pub fn add(&mut self, tos: u8, datagrams: u64) {
        let count = &mut self.0[usize::from(tos)];
        *count = count.saturating_add(datagrams);
    }

    /// Datagrams with the mark CE so far: both bits of the ECN field (RFC 3168).
    pub fn ce(&self) -> u64 {
        let marked = self.0.iter().skip(3).step_by(4);
        marked.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// TOS bytes that arrived, and the number of their datagrams.
    pub fn counts(&self) -> impl Iterator<Item = (u8, u64)> {
        let counts = (0..=u8::MAX).zip(self.0.iter().copied());
        counts.filter(|(_, datagrams)| *datagrams > 0)
    }
}
