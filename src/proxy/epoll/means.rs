//! What the connections of a thread share: a buffer, pipes, and the time of the loop.

use super::pipes::Pool;
use crate::proxy::lot::BUFFER;
use crate::proxy::spares::Spares;

/// Lots that all who are ready share before the loop looks around again: 8 MiB, 2 to 4 ms.
const LOOP: usize = 128;

/// Lots of a turn at most. The longer a turn, the fewer times the two ends are woken: with four streams, turns of
/// 32 lots carried 1.2 times the bytes of turns of 4, at 0.77 of the CPU (copying; medians of 11 interleaved rounds on
/// two busy cores).
const TURN: usize = 32;

/// Lots of a turn at least, however many are ready.
const LEAST: usize = 4;

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
            lots: LEAST,
        }
    }

    /// So many connections have a turn now.
    pub(super) fn share(&mut self, ready: usize) {
        self.lots = (LOOP / ready.max(1)).clamp(LEAST, TURN);
    }

    /// Lots that a direction may take before others have their turn.
    pub(super) fn lots(&self) -> usize {
        self.lots
    }
}
