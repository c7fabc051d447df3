//! What a process counts of itself: tokio of its runtime, rings, and the kernel of its threads.

use serde::{Deserialize, Serialize};

use super::events::Reading;
use crate::format::{RingUse, RuntimeUse};

/// `None`, or a reason, for what the process does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnCounts {
    pub(crate) runtime: Option<RuntimeUse>,
    pub(crate) ring: Option<RingUse>,
    pub(crate) events: Reading,
    /// Requests that a server answered.
    pub(crate) answered: Option<u64>,
}

impl OwnCounts {
    /// Nothing is known, for one reason.
    pub(crate) fn none(why: &str) -> OwnCounts {
        OwnCounts { runtime: None, ring: None, events: Reading::none(why), answered: None }
    }

    pub(crate) fn since(&self, earlier: &OwnCounts) -> OwnCounts {
        let runtime = |(now, then): (RuntimeUse, RuntimeUse)| RuntimeUse {
            parks: now.parks.saturating_sub(then.parks),
            busy_ns: now.busy_ns.saturating_sub(then.busy_ns),
            alive_tasks: now.alive_tasks.max(then.alive_tasks),
            ..now
        };
        let ring = |(now, then): (RingUse, RingUse)| RingUse {
            rings: now.rings,
            turns: now.turns.saturating_sub(then.turns),
            completions: now.completions.saturating_sub(then.completions),
            held_ns: now.held_ns.saturating_sub(then.held_ns),
        };
        OwnCounts {
            runtime: self.runtime.zip(earlier.runtime).map(runtime),
            ring: self.ring.zip(earlier.ring).map(ring),
            events: self.events.since(&earlier.events),
            answered: self
                .answered
                .zip(earlier.answered)
                .map(|(now, then)| now.saturating_sub(then)),
        }
    }
}
