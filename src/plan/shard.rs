//! A shard: the part of one plan that one machine of several sends, as a pure function of k and n.
//!
//! Shard k of n sends the requests i ≡ k (mod n) of the same global schedule through its share of
//! each worker's lanes. With p worker processes a trial, worker w of shard k is worker w·n + k of
//! n·p: those residues are ≡ k (mod n) and differ from one another, so that shards and processes
//! together send every request exactly once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, share_of};
use super::{Arrivals, Cell, Extent, TrialPlan};
use crate::units::{SECOND_NS, plural};

/// Most shards of a run: far beyond any cluster that one target stands, and small enough that
/// shards × processes stays a `u32`.
pub(crate) const MOST_SHARDS: u32 = 100_000;

/// Which part of a plan is meant.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Shard {
    /// Its number, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a shard: write k/n with 0 <= k < n <= {MOST_SHARDS}, such as 0/2 and 1/2, or auto"
)]
pub struct ShardError(String);

impl std::str::FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let error = || ShardError(text.into());
        let (index, count) = text.split_once('/').ok_or_else(error)?;
        let number = |t: &str| t.trim().parse::<u32>().map_err(|_| error());
        Shard { index: number(index)?, count: number(count)? }.checked().ok_or_else(error)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// What of a trial runs here: all of it, or a shard's part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assignment {
    /// The cell with the lanes and the load that fall to this place.
    pub(crate) cell: Cell,
    pub(crate) workers: Vec<u32>,
    /// All workers of the trial.
    pub(crate) of: u32,
    /// Requests of the window that are sent from here, where the plan says it.
    pub(crate) planned: Option<u64>,
}

impl Shard {
    pub(crate) const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// This shard, if it is one.
    pub fn checked(self) -> Option<Shard> {
        (self.index < self.count && self.count <= MOST_SHARDS).then_some(self)
    }

    /// What of a trial this shard runs.
    pub(crate) fn assign(self, cell: &Cell, plan: &TrialPlan) -> anyhow::Result<Assignment> {
        Ok(Assignment {
            cell: self.cell(cell)?,
            workers: (0..cell.processes).map(|worker| self.worker(worker)).collect(),
            of: cell.processes * self.count,
            planned: self.planned(plan),
        })
    }

    /// Number of this shard's worker `worker` among all workers of the trial.
    pub fn worker(self, worker: u32) -> u32 {
        worker * self.count + self.index
    }

    /// The cell as this shard runs it: its share of the lanes and of the offered load, under the
    /// same id.
    pub fn cell(self, cell: &Cell) -> anyhow::Result<Cell> {
        if cell.lanes < self.count {
            let (lanes, count) = (plural(cell.lanes.into(), "lane"), self.count);
            anyhow::bail!(
                "cell {}: {lanes} per worker cannot be divided among {count} shards; leave the cell \
                 out, or give it at least {count} lanes",
                cell.id
            );
        }
        let lanes = share_of(u64::from(cell.lanes), self.index, self.count) as u32;
        Ok(Cell {
            lanes,
            total_lanes: lanes.saturating_mul(cell.processes),
            offered_per_s: cell.offered_per_s.map(|rate| rate / f64::from(self.count)),
            // One thread per lane stays one per lane; a pool of the worker's CPUs stays as it is.
            rayon_threads: cell
                .rayon_threads
                .map(|threads| if threads == cell.lanes { lanes } else { threads.min(lanes) }),
            ..cell.clone()
        })
    }

    /// Requests of the window that this shard is to send; `None` where only the run decides (a
    /// closed loop by duration).
    pub fn planned(self, plan: &TrialPlan) -> Option<u64> {
        match plan.extent {
            Extent::Requests(n) => Some(share_of(n, self.index, self.count)),
            Extent::DurationNs(_) if plan.idle => Some(0),
            Extent::DurationNs(_) if plan.arrivals == Arrivals::Closed => None,
            // The mean rate of a trace is that of its window, and so says how many there are.
            Extent::DurationNs(ns) if plan.trace.is_some() => {
                let whole = plan.offered_per_s.unwrap_or(0.0) * ns as f64 / SECOND_NS as f64;
                Some(share_of(whole.round() as u64, self.index, self.count))
            }
            Extent::DurationNs(_) => {
                Some(Schedule::window(plan, None).count_share(self.index, self.count))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Engine;
    use proptest::prelude::*;

    fn cell(lanes: u32, processes: u32) -> Cell {
        Cell { processes, total_lanes: lanes * processes, ..Cell::plain(Engine::Rayon, lanes) }
    }

    proptest! {
        #[test]
        fn shards_and_processes_send_every_request_once(
            count in 1u32..9, processes in 1u32..5, total in 0u64..500,
        ) {
            let mut sent = vec![0u32; total as usize];
            for index in 0..count {
                let shard = Shard { index, count };
                let mut of_shard = 0;
                for w in 0..processes {
                    let (worker, workers) = (shard.worker(w), processes * count);
                    for local in 0..share_of(total, worker, workers) {
                        let i = local * u64::from(workers) + u64::from(worker);
                        prop_assert_eq!(i % u64::from(count), u64::from(index));
                        sent[i as usize] += 1;
                        of_shard += 1;
                    }
                }
                prop_assert_eq!(of_shard, share_of(total, index, count));
            }
            prop_assert!(sent.iter().all(|n| *n == 1), "each request once: {:?}", sent);
        }

        #[test]
        fn shards_share_out_every_lane(count in 1u32..9, more in 0u32..100, processes in 1u32..5) {
            let whole = cell(count + more, processes);
            let parts: Vec<Cell> = (0..count)
                .map(|index| Shard { index, count }.cell(&whole).unwrap())
                .collect();
            prop_assert_eq!(parts.iter().map(|c| c.total_lanes).sum::<u32>(), whole.total_lanes);
            prop_assert!(parts.iter().all(|c| c.lanes > 0 && c.rayon_threads == Some(c.lanes)));
        }
    }

    #[test]
    fn a_shard_is_k_of_n_and_nothing_else() {
        assert_eq!("1/3".parse(), Ok(Shard { index: 1, count: 3 }));
        for bad in ["3/3", "1", "a/2", "1/0", "-1/2", "1/2/3", "", "0/100001"] {
            let error = bad.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("0 <= k < n"), "{bad}: {error}");
        }
        let error = Shard { index: 0, count: 2 }.cell(&cell(1, 4)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("1 lane per worker") && error.contains("2 shards"), "{error}");
    }
}
