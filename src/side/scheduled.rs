//! What schedulers count of themselves in a process: tokio's runtime, and rings.

use serde::{Deserialize, Serialize};

use crate::format::{RingUse, RuntimeUse};

/// `None` for what the process does not have.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Scheduled {
    pub(crate) runtime: Option<RuntimeUse>,
    pub(crate) ring: Option<RingUse>,
}

impl Scheduled {
    /// What was counted between two readings.
    pub(crate) fn since(self, earlier: Scheduled) -> Scheduled {
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
        Scheduled {
            runtime: self.runtime.zip(earlier.runtime).map(runtime),
            ring: self.ring.zip(earlier.ring).map(ring),
        }
    }
}
