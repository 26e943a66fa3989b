//! What the connections of a thread share: a buffer and pipes.

use crate::proxy::lot::BUFFER;
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
}

impl Means {
    /// With so many pipes at most.
    pub(super) fn new(pipes: usize) -> Self {
        Self {
            buffer: vec![0; BUFFER].into(),
            pipes: Pool::new(pipes),
            spares: Spares::default(),
        }
    }
}
