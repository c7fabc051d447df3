//! Whether a cell fits into the limits, and how many lanes each of them allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::machine::Limits;
use super::needs::CellNeeds;
use super::terms::{Scope, TargetKind, Unit};
use crate::plan::cell::STACK_BYTES;
use crate::plan::server::{PoolOf, ServerEngine, ServerPlan, ServerSetting};
use crate::plan::steps::Offload;
use crate::plan::{Cell, Codec, Engine};
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
    /// Where the server that it loads counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerEngine>,
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
        let on = self.server.map_or(String::new(), |s| format!(" on a server `{}`", s.name()));
        let (need, what) = self.unit.amount(self.need);
        write!(
            f,
            "{} under {}{on}{each} need{} {need} {what}; {} allows {}: at most {}{each}; {}",
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
        self.check_with(cell, target, None)
    }

    /// Says whether a cell fits together with the server that duel starts for it, on whatever CPUs the
    /// cell leaves it.
    pub fn check_with(
        &self,
        cell: &Cell,
        target: TargetKind,
        server: Option<&ServerPlan>,
    ) -> Result<(), LimitHit> {
        self.check_on(cell, target, server.map(|plan| (plan, self.cpus_beside(cell))))
    }

    /// The same of a server on so many CPUs.
    pub fn check_on(
        &self,
        cell: &Cell,
        target: TargetKind,
        server: Option<(&ServerPlan, u64)>,
    ) -> Result<(), LimitHit> {
        let lanes = u64::from(cell.lanes);
        let needs = CellNeeds::of(cell, target, server);
        let tightest = self
            .demands(&needs)
            .into_iter()
            .filter(|demand| demand.need.at(lanes) > demand.have)
            .min_by_key(|demand| demand.most_lanes().unwrap_or(0));
        let Some(demand) = tightest else { return Ok(()) };
        let need = demand.need.at(lanes);
        Err(LimitHit {
            have: demand.have,
            need,
            most_lanes: demand.most_lanes().unwrap_or(0),
            // The way out names the limit alone, not whose it is.
            way_out: (demand.way_out)(&demand.name, need),
            unit: demand.unit,
            engine: cell.engine,
            server: server.map(|(plan, _)| plan.engine).filter(|_| demand.scope != Scope::Worker),
            lanes,
            processes: needs.client.processes,
            limit: demand.limit(),
        })
    }

    /// Says whether a server of duel's own can run here at all.
    pub(crate) fn admit_server(&self, server: &ServerPlan) -> anyhow::Result<()> {
        match self.refusal(server.engine.alike()) {
            None => Ok(()),
            Some(why) => {
                anyhow::bail!("the server engine `{}` cannot run here: {why}", server.engine.name())
            }
        }
    }

    /// Why an engine cannot run here at all, and the way out.
    pub fn refusal(&self, engine: Engine) -> Option<&str> {
        self.ring_refused.as_deref().filter(|_| engine.has_ring())
    }

    /// Lists how many lanes each limit allows one worker of the engine, the tightest first, with
    /// hyper, the usual stacks and one CPU. Empty for `sequential`, which has one lane.
    pub fn predict(&self, engine: Engine, target: TargetKind) -> Vec<Ceiling> {
        self.ceilings(&CellNeeds::of(&typical_cell(engine, 1), target, None))
    }

    /// The same of connections to one process of a server that `tokio-single` loads from this machine;
    /// what bounds that client alone is left out.
    pub fn predict_server(&self, engine: ServerEngine) -> Vec<Ceiling> {
        let client = Cell { codec: Codec::Lean, ..typical_cell(Engine::TokioSingle, 1) };
        let server = typical_server(engine);
        let beside = Some((&server, self.cpus_beside(&client)));
        let needs = CellNeeds::of(&client, TargetKind::Embedded { processes: 1 }, beside);
        let mut ceilings = self.ceilings(&needs);
        ceilings.retain(|ceiling| ceiling.scope != Scope::Worker);
        ceilings
    }

    fn ceilings(&self, needs: &CellNeeds) -> Vec<Ceiling> {
        let mut ceilings: Vec<Ceiling> = self
            .demands(needs)
            .into_iter()
            .filter(|demand| demand.have < u64::MAX)
            .filter_map(|demand| {
                let most_lanes = demand.most_lanes()?;
                Some(Ceiling {
                    limit: demand.limit(),
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

pub(super) const POOL_SIZE: u32 = 8;

/// The server that predictions are for.
fn typical_server(engine: ServerEngine) -> ServerPlan {
    let setting = ServerSetting {
        pool: PoolOf::default(),
        pool_size: (engine == ServerEngine::Pool).then_some(POOL_SIZE),
        stack_bytes: STACK_BYTES,
        tls: false,
        steps: vec![],
        permits: None,
        own: None,
        owns: vec![],
        upstream: None,
    };
    ServerPlan { engine, codec: Codec::Lean, offload: Offload::default(), fan_out: 1, setting }
}

/// The cell that predictions are for.
pub(super) fn typical_cell(engine: Engine, lanes: u32) -> Cell {
    Cell { stack_size_bytes: Some(STACK_BYTES), ..Cell::plain(engine, lanes) }
}
