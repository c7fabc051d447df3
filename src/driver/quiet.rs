//! The watchdog of a running trial: silence that the plan does not explain.

use anyhow::anyhow;

use crate::sys::now_ns;
use crate::units::SECOND_NS;

/// Gives a worker up whose requests have neither started nor ended for too long.
pub(super) struct Quiet {
    since: u64,
    last: u64,
    limit: u64,
}

impl Quiet {
    /// `gap_ns` is how long the plan itself may start nothing.
    pub(super) fn new(timeout_ns: u64, gap_ns: u64) -> Self {
        let grace = 30 * SECOND_NS;
        let limit = timeout_ns.saturating_mul(2).saturating_add(gap_ns).saturating_add(grace);
        Quiet { since: now_ns(), last: 0, limit }
    }

    /// `next` is an instant up to which silence is in order.
    pub(super) fn check(&mut self, now: u64, moved: u64, next: u64) -> anyhow::Result<()> {
        if moved != self.last || now < next {
            self.last = moved;
            self.since = now;
        }
        if now - self.since > self.limit {
            let silence = crate::units::format_ns((now - self.since) as f64);
            return Err(anyhow!("the worker did nothing for {silence} and was given up"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_plan_is_no_dead_worker() {
        let begun = now_ns();
        let hour = 3600 * SECOND_NS;
        let timeout = 5 * SECOND_NS;
        let mut slow = Quiet::new(timeout, hour);
        assert!(slow.check(begun + hour, 0, 0).is_ok(), "a request an hour");
        assert!(slow.check(begun + 2 * hour, 1, 0).is_ok(), "and another");
        let mut window = Quiet::new(timeout, 0);
        assert!(window.check(begun + hour, 0, begun + 2 * hour).is_ok(), "a window of silence");
        let mut dead = Quiet::new(timeout, 0);
        assert!(dead.check(begun + 30 * SECOND_NS, 0, 0).is_ok());
        let error = dead.check(begun + 60 * SECOND_NS, 0, 0).unwrap_err().to_string();
        assert!(error.contains("did nothing"), "{error}");
        assert!(Quiet::new(u64::MAX, u64::MAX).check(u64::MAX, 0, 0).is_ok(), "no overflow");
    }
}
