//! For how long CPU quotas stopped duel and the target between the edges of a window.

use crate::side::quota::Throttled;

/// Of duel, whose cgroup workers and embedded targets are in, and of an external target.
pub(super) type Sides = [Option<Throttled>; 2];

/// For how long both had been stopped at each edge, as far as the driver has read it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SeenQuotas {
    edges: [Option<Sides>; 2],
}

impl SeenQuotas {
    /// Whether the reading at each edge is still to be made.
    pub(super) fn unread(&self) -> [bool; 2] {
        self.edges.map(|edge| edge.is_none())
    }

    /// Reads what is due: the first edge once the window has begun, the last once it is over.
    pub(super) fn read(&mut self, begun: bool, over: bool, sides: impl Fn() -> Sides) {
        for (edge, due) in self.edges.iter_mut().zip([begun, over]) {
            if due && edge.is_none() {
                *edge = Some(sides());
            }
        }
    }

    /// For how long each was stopped; `None` where that was not read.
    pub(super) fn between(&self) -> Sides {
        let [Some(first), Some(last)] = self.edges else { return [None; 2] };
        [0, 1].map(|side| Some(last[side]?.since(first[side]?)))
    }

    /// What a driver read that missed a part of the window says nothing where it saw no stop; one that
    /// it saw stands, since it may be what made the driver late.
    pub(super) fn drop_late(&mut self) {
        if !self.between().into_iter().flatten().any(|seen| seen.ns > 0) {
            self.edges = [None; 2];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(ns: u64) -> Option<Throttled> {
        Some(Throttled { periods: ns / 100, ns })
    }

    #[test]
    fn a_stop_that_was_seen_stands_although_the_driver_was_late() {
        let nothing = [None; 2];
        for (first, last, in_time, late) in [
            // No quota stopped anybody, as far as a driver that came late can tell: nothing is known.
            ([stopped(0), None], [stopped(0), None], [stopped(0), None], nothing),
            ([stopped(700), None], [stopped(700), None], [stopped(0), None], nothing),
            // One did: of duel, of the target, of both.
            ([stopped(0), None], [stopped(900), None], [stopped(900), None], [stopped(900), None]),
            (
                [stopped(300), stopped(0)],
                [stopped(300), stopped(100)],
                [stopped(0), stopped(100)],
                [stopped(0), stopped(100)],
            ),
            // What cannot be read at an edge cannot be told.
            ([None, None], [stopped(900), None], nothing, nothing),
        ] {
            let mut seen = SeenQuotas::default();
            assert_eq!((seen.between(), seen.unread()), (nothing, [true; 2]));
            seen.read(true, false, || first);
            assert_eq!((seen.between(), seen.unread()), (nothing, [false, true]));
            seen.read(true, true, || last);
            // A later look changes nothing.
            seen.read(true, true, || [stopped(5_000), stopped(5_000)]);
            assert_eq!(seen.between(), in_time, "{first:?} to {last:?}");
            seen.drop_late();
            assert_eq!(seen.between(), late, "{first:?} to {last:?}, late");
        }
    }
}
