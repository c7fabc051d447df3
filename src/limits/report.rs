//! What `duel limits` shows: each limit, how many lanes it allows, and which is reached first.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::check::{Ceiling, LimitHit, typical_cell};
use super::demand::TargetKind;
use super::machine::Limits;
use crate::plan::Engine;
use crate::plan::endpoint::Endpoint;
use crate::plan::server::ServerEngine;
use crate::units::format_count;

/// Some address of another machine (TEST-NET-1, RFC 5737); nothing is sent there.
const ELSEWHERE: Endpoint =
    Endpoint::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80));

/// The limits of this machine in lanes of each engine; serialized, it is the command's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReport {
    pub limits: Limits,
    pub target: TargetKind,
    pub lanes: Option<u32>,
    pub engines: Vec<EngineReport>,
}

/// What the limits mean for one engine, in lanes of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineReport {
    pub engine: Engine,
    /// Every limit that lanes count against, the tightest first.
    pub ceilings: Vec<Ceiling>,
    pub fits: Option<bool>,
    pub hit: Option<LimitHit>,
}

impl LimitsReport {
    pub fn new(limits: &Limits, target: TargetKind, lanes: Option<u32>) -> LimitsReport {
        let engines = Engine::ALL
            .into_iter()
            .filter(|engine| !engine.has_one_lane())
            .map(|engine| {
                let outcome = lanes.map(|n| limits.check(&typical_cell(engine, n), target));
                EngineReport {
                    engine,
                    ceilings: limits.predict(engine, target),
                    fits: outcome.as_ref().map(Result::is_ok),
                    hit: outcome.and_then(Result::err),
                }
            })
            .collect();
        LimitsReport { limits: limits.clone(), target, lanes, engines }
    }

    fn rows(&self) -> Vec<&Ceiling> {
        let mut all: Vec<&Ceiling> = self.engines.iter().flat_map(|e| &e.ceilings).collect();
        all.sort_by_key(|ceiling| ceiling.most_lanes);
        let mut rows: Vec<&Ceiling> = Vec::new();
        for ceiling in all {
            if rows.iter().all(|row| row.limit != ceiling.limit) {
                rows.push(ceiling);
            }
        }
        rows
    }

    /// The heads of the table and its rows: each limit, what it allows, and the lanes of each engine.
    pub(crate) fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let engines = || self.engines.iter();
        let names = engines().map(|e| e.engine.name().to_string());
        let heads = ["limit", "allows"].map(String::from).into_iter().chain(names).collect();
        let row = |limit: &Ceiling| {
            let lanes = engines().map(|engine| engine.cell(&limit.limit));
            [limit.limit.clone(), limit.allows()].into_iter().chain(lanes).collect()
        };
        (heads, self.rows().into_iter().map(row).collect())
    }

    /// What stands above the table, and below it.
    pub(crate) fn sentences(&self) -> (String, Vec<String>) {
        let target = match self.target {
            TargetKind::Embedded { processes: 0 | 1 } => "the embedded target".to_string(),
            TargetKind::Embedded { processes } => format!("{processes} embedded targets"),
            TargetKind::External { loopback: true } => "a target on this machine".to_string(),
            TargetKind::External { loopback: false } => "a target on another machine".to_string(),
        };
        let above = format!(
            "Maximum lanes per worker process against {target}, with the hyper codec and stacks of \
             64 KiB. ► the limit reached first; - no limit; memory is an estimate."
        );
        let mut below = vec![];
        for (to, at) in [("on loopback", None), ("elsewhere", Some(ELSEWHERE))] {
            let ports = self.limits.ports_to(at.as_ref(), 1);
            below.extend(ports.map(|p| format!("keep_alive = false towards a target {to}: {p}")));
        }
        let threads = self.engines.iter().find(|e| e.engine == ServerEngine::Threads.facts().alike);
        below.extend(threads.and_then(|e| e.ceilings.first()).map(|first| {
            let (most, limit) = (format_count(first.most_lanes), &first.limit);
            format!(
                "a server with a thread per connection (server_engines = [\"threads\"]) holds as \
                 many connections as `threads` has lanes: at most {most} ({limit})"
            )
        }));
        let refused = |engine: &EngineReport| self.limits.refusal(engine.engine);
        for engine in &self.engines {
            let name = engine.engine.name();
            below.extend(refused(engine).map(|why| format!("{name} cannot run here: {why}")));
        }
        below.extend(self.limits.cpu_quota.as_ref().map(|quota| {
            let (whole, cpus) = (quota.whole_cpus().min(self.limits.cpus), self.limits.cpus);
            format!("CPU quota: {quota}; duel spreads over {whole} of {cpus} CPUs")
        }));
        let lanes = self.lanes.map(|n| format_count(n.into()));
        let engines = self.engines.iter().filter(|engine| refused(engine).is_none());
        for (engine, lanes) in engines.zip(lanes.iter().cycle()) {
            below.push(match &engine.hit {
                None => format!("{lanes} lanes under {} fit", engine.engine.name()),
                Some(hit) => hit.to_string(),
            });
        }
        (above, below)
    }
}

impl EngineReport {
    /// Most lanes under the limit; the one that is reached first is marked.
    fn cell(&self, limit: &str) -> String {
        match self.ceilings.iter().position(|ceiling| ceiling.limit == limit) {
            None => "-".to_string(),
            Some(0) => format!("► {}", format_count(self.ceilings[0].most_lanes)),
            Some(i) => format_count(self.ceilings[i].most_lanes),
        }
    }
}

impl Ceiling {
    fn allows(&self) -> String {
        self.unit.amount(self.have).0
    }
}
