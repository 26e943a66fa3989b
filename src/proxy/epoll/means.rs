//! What the connections of a thread share: a buffer, pipes, and the time of the loop.

use crate::proxy::lot::{self, BUFFER};
use crate::proxy::pipes::Pool;
use crate::proxy::spares::Spares;

/// What a thread's connections share.
#[derive(Debug)]
pub(super) struct Means {
    /// To copy through; empty between turns.
    pub(super) buffer: Box<[u8]>,
    /// To splice through.
    pub(super) pipes: Pool,
    /// For what a sink did not take.
    pub(super) spares: Spares,
    lots: usize,
}

impl Means {
    /// With so many pipes at most.
    pub(super) fn new(pipes: usize) -> Self {
        Self {
            buffer: vec![0; BUFFER].into(),
            pipes: Pool::new(pipes),
            spares: Spares::default(),
            lots: lot::turn(1),
        }
    }

    /// So many connections have a turn now.
    pub(super) fn share(&mut self, ready: usize) {
        self.lots = lot::turn(ready);
    }

    /// Lots that a direction may take before others have their turn.
    pub(super) fn lots(&self) -> usize {
        self.lots
    }
}
