//! What the connections of a thread share: who tells of their sockets, a buffer and pipes.

use mio::Registry;

use crate::proxy::lot::BUFFER;
use crate::proxy::pipes::Pool;
use crate::proxy::spares::Spares;

/// What a thread's connections share.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) registry: Registry,
    /// To copy through; empty between turns.
    pub(super) buffer: Box<[u8]>,
    /// To splice through.
    pub(super) pipes: Pool,
    /// For what a sink did not take.
    pub(super) spares: Spares,
}

impl Means {
    /// With so many pipes at most.
    pub(super) fn new(registry: Registry, pipes: usize) -> Self {
        Self {
            registry,
            buffer: vec![0; BUFFER].into(),
            pipes: Pool::new(pipes),
            spares: Spares::default(),
        }
    }
}
