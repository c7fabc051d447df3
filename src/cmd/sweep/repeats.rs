//! Repeats of noisy trials.

use crate::plan::sweep::Trial;
use crate::units::format_count;

/// How many repeats of noisy trials a sweep may still make: half of its trials in all, so that a
/// machine that is never quiet stretches a sweep by half and not without end.
pub(super) struct Repeats {
    wanted: u32,
    left: usize,
    made: usize,
    refused: usize,
}

impl Repeats {
    pub(super) fn new(wanted: u32, trials: usize) -> Self {
        Repeats { wanted, left: trials / 2, made: 0, refused: 0 }
    }

    /// Keeps of `noisy` what may be repeated.
    pub(super) fn grant(&mut self, noisy: &mut Vec<Trial>) {
        let granted = noisy.len().min(self.left);
        self.refused += noisy.len() - granted;
        self.made += granted;
        self.left -= granted;
        noisy.truncate(granted);
    }

    pub(super) fn report(&self) {
        if self.made > 0 {
            let (made, each) = (format_count(self.made as u64), self.wanted);
            say!("duel: {made} noisy trials were repeated, each at most {each} times");
        }
        if self.refused > 0 {
            say!(
                "duel: {} noisy trials were not repeated, since at most half of all trials are. \
                 Something else is using this machine",
                format_count(self.refused as u64)
            );
        }
    }
}
