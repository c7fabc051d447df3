//! What `duel limits` shows: each limit, how many lanes it allows, and which is reached first.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::check::{Ceiling, LimitHit, POOL_SIZE, typical_cell};
use super::machine::Limits;
use super::terms::TargetKind;
use crate::plan::Engine;
use crate::plan::cell::STACK_BYTES;
use crate::plan::endpoint::Endpoint;
use crate::plan::server::ServerEngine;
use crate::units::{format_bytes, format_count};

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
    /// What one process of a server under test can hold.
    #[serde(default)]
    pub servers: Vec<ServerReport>,
}

/// What the limits mean for a server engine, in connections of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    pub engine: ServerEngine,
    pub ceilings: Vec<Ceiling>,
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
        let servers = ServerEngine::ALL.into_iter().filter(|engine| engine.facts().handles);
        let servers = servers
            .map(|engine| ServerReport { engine, ceilings: limits.predict_server(engine) })
            .collect();
        LimitsReport { limits: limits.clone(), target, lanes, engines, servers }
    }

    pub(crate) fn tables(&self) -> [(String, LimitTable); 2] {
        let target = match self.target {
            TargetKind::Embedded { processes: 0 | 1 } => "the embedded target".to_string(),
            TargetKind::Embedded { processes } => format!("{processes} embedded targets"),
            TargetKind::External { loopback: true } => "a target on this machine".to_string(),
            TargetKind::External { loopback: false } => "a target on another machine".to_string(),
        };
        let stacks = format!("stacks of {}", format_bytes(STACK_BYTES as f64));
        let of_clients = format!(
            "Maximum lanes per worker process against {target}, with the hyper codec and {stacks}. ► \
             the limit reached first; - no limit; memory is an estimate."
        );
        let of_servers = format!(
            "Maximum connections per process of a server under test, with the lean codec, {stacks} and \
             a pool of {POOL_SIZE} threads, that tokio-single loads from this machine."
        );
        let clients = self.engines.iter().map(|e| (e.engine.name(), &*e.ceilings));
        let servers = self.servers.iter().map(|s| (s.engine.name(), &*s.ceilings));
        [(of_clients, table(clients.collect())), (of_servers, table(servers.collect()))]
    }

    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut below = vec![];
        for (to, at) in [("on loopback", None), ("elsewhere", Some(ELSEWHERE))] {
            let ports = self.limits.ports_to(at.as_ref(), 1);
            below.extend(ports.map(|p| format!("keep_alive = false towards a target {to}: {p}")));
        }
        let refused = |engine: &EngineReport| self.limits.refusal(engine.engine);
        for engine in &self.engines {
            let name = engine.engine.name();
            let cannot =
                |why: &str| format!("{name} cannot run here: {why}; neither can a server `{name}`");
            below.extend(refused(engine).map(cannot));
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
        below
    }
}

/// The heads of a table and its rows: each limit, what it allows, and the lanes of each engine.
pub(crate) type LimitTable = (Vec<String>, Vec<Vec<String>>);

fn table(engines: Vec<(&str, &[Ceiling])>) -> LimitTable {
    let mut all: Vec<&Ceiling> = engines.iter().flat_map(|(_, ceilings)| *ceilings).collect();
    all.sort_by_key(|ceiling| ceiling.most_lanes);
    let mut limits: Vec<&Ceiling> = Vec::new();
    for ceiling in all {
        if limits.iter().all(|row| row.limit != ceiling.limit) {
            limits.push(ceiling);
        }
    }
    let names = engines.iter().map(|(name, _)| name.to_string());
    let heads = ["limit", "allows"].map(String::from).into_iter().chain(names).collect();
    let row = |limit: &Ceiling| {
        let lanes = engines.iter().map(|(_, ceilings)| most(ceilings, &limit.limit));
        let allows = limit.unit.amount(limit.have).0;
        [limit.limit.clone(), allows].into_iter().chain(lanes).collect()
    };
    (heads, limits.into_iter().map(row).collect())
}

/// Most lanes under the limit; the one that is reached first is marked.
fn most(ceilings: &[Ceiling], limit: &str) -> String {
    match ceilings.iter().position(|ceiling| ceiling.limit == limit) {
        None => "-".to_string(),
        Some(0) => format!("► {}", format_count(ceilings[0].most_lanes)),
        Some(i) => format_count(ceilings[i].most_lanes),
    }
}
