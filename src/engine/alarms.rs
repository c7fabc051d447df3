//! Instants at which tasks of a ring go on, the earliest first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

/// So many for nobody are kept whatever the others.
const FEW: usize = 64;

pub(super) struct Alarms {
    /// When, which and whose.
    all: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// The number that was given out last.
    last: u32,
    given_up: HashSet<u32>,
}

impl Alarms {
    pub(super) fn new(lanes: usize) -> Self {
        Alarms { all: BinaryHeap::with_capacity(lanes), last: 0, given_up: HashSet::new() }
    }

    /// Lets a lane go on at an instant; returns the timer's number, never zero.
    pub(super) fn set(&mut self, at: u64, lane: u32) -> u32 {
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.all.push(Reverse((at, self.last, lane)));
        self.last
    }

    /// Takes back one that has not gone off. The list is cleared where most of it is for nobody.
    pub(super) fn give_up(&mut self, number: u32) {
        self.given_up.insert(number);
        if self.given_up.len() > (self.all.len() / 2).max(FEW) {
            let given_up = std::mem::take(&mut self.given_up);
            self.all.retain(|Reverse((_, number, _))| !given_up.contains(number));
        }
    }

    /// The earliest, or the end of time; it may be for nobody.
    pub(super) fn earliest(&self) -> u64 {
        self.all.peek().map_or(u64::MAX, |Reverse((at, ..))| *at)
    }

    /// Whose timer has gone off by `now`, the earliest first.
    pub(super) fn due(&mut self, now: u64) -> Option<u32> {
        while self.earliest() <= now {
            let Reverse((_, number, lane)) = self.all.pop()?;
            if self.given_up.is_empty() || !self.given_up.remove(&number) {
                return Some(lane);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handler's call is bounded by a timer that hardly ever goes off: a busy server must not keep one
    /// for each call of the last seconds.
    #[test]
    fn timers_that_are_given_up_wake_nobody_and_are_not_kept() {
        let mut alarms = Alarms::new(0);
        let kept = alarms.set(2_000, 7);
        for n in 0..10_000 {
            let number = alarms.set(1_000 + n, 1);
            assert_ne!(number, kept);
            alarms.give_up(number);
            assert!(alarms.all.len() <= 2 * FEW + 2, "{} after {n}", alarms.all.len());
        }
        assert_eq!(alarms.due(1_999), None);
        assert_eq!(alarms.due(2_000), Some(7));
        assert_eq!(alarms.due(u64::MAX - 1), None);
    }
}
