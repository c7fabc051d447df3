//! Whether a cell fits into the limits, and how many lanes each of them allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::demand::{CellNeeds, RESERVED_FDS, Scope, TargetKind, Unit, raise_nofile};
use super::machine::Limits;
use crate::plan::engine::LaneThreads;
use crate::plan::server::ServerPlan;
use crate::plan::{Cell, Engine};
use crate::units::{format_count, plural};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHit {
    pub limit: String,
    pub have: u64,
    /// What the cell needs, together with what is in use already.
    pub need: u64,
    pub most_lanes: u64,
    pub way_out: String,
    pub unit: Unit,
    pub engine: Engine,
    pub lanes: u64,
    pub processes: u64,
}

impl std::error::Error for LimitHit {}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = match self.processes {
            0 | 1 => String::new(),
            n => format!(" in each of {} processes", format_count(n)),
        };
        let (need, what) = self.unit.amount(self.need);
        write!(
            f,
            "{} under {}{each} need{} {need} {what}; {} allows {}: at most {}{each}; {}",
            plural(self.lanes, "lane"),
            self.engine.name(),
            if self.lanes == 1 { "s" } else { "" },
            self.limit,
            self.unit.amount(self.have).0,
            plural(self.most_lanes, "lane"),
            self.way_out,
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    pub limit: String,
    pub have: u64,
    /// What is in use before the first lane, the reserve included.
    pub before_lanes: u64,
    pub per_lane: u64,
    pub unit: Unit,
    pub scope: Scope,
    pub most_lanes: u64,
}

impl Ceiling {
    /// Whether each worker of a host has this limit to itself.
    pub(crate) fn is_per_worker(&self) -> bool {
        self.scope == Scope::Worker
    }

    /// Whether it only estimates memory, which a run has measured.
    pub(crate) fn is_memory_estimate(&self) -> bool {
        self.scope == Scope::MachineMemory
    }
}

impl Limits {
    pub fn check(&self, cell: &Cell, target: TargetKind) -> Result<(), LimitHit> {
        self.hit(cell, target).map_or(Ok(()), Err)
    }

    /// Says whether a server of duel's own fits that has a thread for each connection of a cell: it
    /// needs what a client with as many threads does.
    pub fn check_server(&self, server: &ServerPlan, connections: u32) -> Result<(), LimitHit> {
        self.check_calls(server, connections)?;
        if server.engine.facts().threads != LaneThreads::PerLane {
            return Ok(());
        }
        let alike = Cell {
            codec: server.codec,
            stack_size_bytes: Some(server.setting.stack_bytes),
            ..Cell::plain(server.engine.facts().alike, connections)
        };
        let hit = self.hit(&alike, TargetKind::External { loopback: true });
        hit.map_or(Ok(()), |hit| {
            let smaller = "raise it, or use a smaller `server.stack_size`, fewer lanes, more \
                           `[target] processes` or another server engine";
            Err(LimitHit {
                limit: format!("{} of the server", hit.limit),
                unit: hit.unit.of_server(),
                way_out: if hit.unit.is_bytes() { smaller.into() } else { hit.way_out },
                ..hit
            })
        })
    }

    /// Says whether a server of duel's own can run here, and whether it fits.
    pub(crate) fn admit_server(&self, server: &ServerPlan, connections: u32) -> anyhow::Result<()> {
        if let Some(why) = self.refusal(server.engine.facts().alike) {
            anyhow::bail!("the server engine `{}` cannot run here: {why}", server.engine.name());
        }
        Ok(self.check_server(server, connections)?)
    }

    /// Says whether a server has a descriptor for each connection and for each call of its handlers; those
    /// of pools call for few connections at a time.
    fn check_calls(&self, server: &ServerPlan, connections: u32) -> Result<(), LimitHit> {
        let facts = server.engine.facts();
        let calls = u64::from(server.fan_out.min(server.setting.most_calls()));
        let (have, lanes) = (self.nofile_hard, u64::from(connections));
        let need = lanes * (1 + calls) + RESERVED_FDS;
        if calls == 0 || facts.threads == LaneThreads::Pool || need <= have {
            return Ok(());
        }
        Err(LimitHit {
            limit: "RLIMIT_NOFILE of the server".into(),
            have,
            need,
            most_lanes: have.saturating_sub(RESERVED_FDS) / (1 + calls),
            way_out: raise_nofile(need) + ", more `[target] processes` or a smaller `fan_out`",
            unit: Unit::ServerFdsWithCalls,
            engine: server.engine.facts().alike,
            lanes,
            processes: 1,
        })
    }

    fn hit(&self, cell: &Cell, target: TargetKind) -> Option<LimitHit> {
        let lanes = u64::from(cell.lanes);
        let needs = CellNeeds::of(cell, target);
        let tightest = self
            .demands(&needs)
            .into_iter()
            .filter(|demand| demand.need.at(lanes) > demand.have)
            .min_by_key(|demand| demand.most_lanes().unwrap_or(0));
        tightest.map(|demand| LimitHit {
            have: demand.have,
            need: demand.need.at(lanes),
            most_lanes: demand.most_lanes().unwrap_or(0),
            way_out: (demand.way_out)(&demand.limit, demand.need.at(lanes)),
            unit: demand.unit,
            limit: demand.limit,
            engine: cell.engine,
            lanes,
            processes: needs.processes,
        })
    }

    /// Why an engine cannot run here at all, and the way out.
    pub fn refusal(&self, engine: Engine) -> Option<&str> {
        self.ring_refused.as_deref().filter(|_| engine.has_ring())
    }

    /// Lists how many lanes each limit allows one worker of the engine, the tightest first, with
    /// hyper, stacks of 64 KiB and one CPU. Empty for `sequential`, which has one lane.
    pub fn predict(&self, engine: Engine, target: TargetKind) -> Vec<Ceiling> {
        let needs = CellNeeds::of(&typical_cell(engine, 1), target);
        let mut ceilings: Vec<Ceiling> = self
            .demands(&needs)
            .into_iter()
            .filter(|demand| demand.have < u64::MAX)
            .filter_map(|demand| {
                let most_lanes = demand.most_lanes()?;
                Some(Ceiling {
                    limit: demand.limit,
                    have: demand.have,
                    before_lanes: demand.need.fixed,
                    per_lane: demand.need.per_lane,
                    unit: demand.unit,
                    scope: demand.scope,
                    most_lanes,
                })
            })
            .collect();
        ceilings.sort_by(|a, b| (a.most_lanes, &a.limit).cmp(&(b.most_lanes, &b.limit)));
        ceilings
    }
}

/// The cell that predictions are for.
pub(super) fn typical_cell(engine: Engine, lanes: u32) -> Cell {
    Cell { stack_size_bytes: Some(64 << 10), ..Cell::plain(engine, lanes) }
}
