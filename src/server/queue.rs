//! The virtual queue: c servers, first come first served, computed instead of acted out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A G/G/c queue by its recursion (Kiefer and Wolfowitz 1955): the next customer starts at
/// `max(arrival, earliest free server)` and leaves when its service time has passed.
#[derive(Debug, Clone)]
pub struct VirtualQueue {
    servers: usize,
    /// When each server that ever worked is free again, the earliest on top.
    free_at: BinaryHeap<Reverse<u64>>,
}

impl VirtualQueue {
    /// A queue with this many servers, all free; 0 = no limit.
    pub fn new(servers: u32) -> Self {
        Self { servers: servers as usize, free_at: BinaryHeap::new() }
    }

    /// Admits the next customer and returns when its service starts and when it leaves.
    ///
    /// All times are nanoseconds on one clock. Customers are admitted in the order of their
    /// arrival. Times saturate at `u64::MAX`, which is never reached.
    pub fn departure(&mut self, arrival_ns: u64, service_ns: u64) -> (u64, u64) {
        if self.servers == 0 {
            return (arrival_ns, arrival_ns.saturating_add(service_ns));
        }
        // A server that is free already is taken again before an unused one, so that memory
        // follows the busiest moment and not the number of servers.
        let all_used = self.free_at.len() == self.servers;
        if let Some(mut earliest) = self.free_at.peek_mut()
            && (all_used || earliest.0 <= arrival_ns)
        {
            let start = arrival_ns.max(earliest.0);
            let departure = start.saturating_add(service_ns);
            *earliest = Reverse(departure);
            return (start, departure);
        }
        let departure = arrival_ns.saturating_add(service_ns);
        self.free_at.push(Reverse(departure));
        (arrival_ns, departure)
    }
}

#[cfg(test)]
mod tests;
