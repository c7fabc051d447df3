//! What `duel limits` shows: each limit, how many lanes it allows, and which binds first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde::{Deserialize, Serialize};

use super::check::{Ceiling, LimitHit, typical_cell};
use super::demand::TargetKind;
use super::machine::Limits;
use crate::plan::Engine;
use crate::plan::endpoint::Endpoint;
use crate::units::{format_bytes, format_count};

/// Some address of another machine (TEST-NET-1, RFC 5737); nothing is sent there.
const ELSEWHERE: Endpoint =
    Endpoint::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80));

/// The limits of this machine in lanes of each engine; serialized, it is the command's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// The limits as they were read.
    pub limits: Limits,
    /// What the load would go to.
    pub target: TargetKind,
    /// The lanes that were asked about.
    pub lanes: Option<u32>,
    /// Each engine whose lanes can be chosen.
    pub engines: Vec<EngineReport>,
}

/// What the limits mean for one engine, in lanes of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineReport {
    /// The engine.
    pub engine: Engine,
    /// Every limit that lanes count against, the tightest first.
    pub ceilings: Vec<Ceiling>,
    /// Whether the lanes asked about fit.
    pub fits: Option<bool>,
    /// The limit that they do not fit into.
    pub hit: Option<LimitHit>,
}

impl LimitsReport {
    /// Predicts for each engine whose number of lanes can be chosen.
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

    /// Names of the limits, the tightest of any engine first.
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

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(
            TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')),
        );
        let mut header = vec!["limit".to_string(), "allows".into()];
        header.extend(self.engines.iter().map(|e| e.engine.name().to_string()));
        table.set_header(header);
        for row in self.rows() {
            let mut cells = vec![row.limit.clone(), row.allows()];
            cells.extend(self.engines.iter().map(|engine| engine.cell(&row.limit)));
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl EngineReport {
    /// Most lanes under the limit; the one that binds first is marked.
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
        if self.unit.starts_with("bytes") {
            format_bytes(self.have as f64)
        } else {
            format_count(self.have)
        }
    }
}

impl fmt::Display for LimitsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match self.target {
            TargetKind::Embedded { processes: 0 | 1 } => "the embedded target".to_string(),
            TargetKind::Embedded { processes } => format!("{processes} embedded targets"),
            TargetKind::External { loopback: true } => "a target on this machine".to_string(),
            TargetKind::External { loopback: false } => "a target on another machine".to_string(),
        };
        writeln!(
            f,
            "Most lanes of one worker against {target}, with hyper and stacks of 64 KiB; \
             ► binds first, - does not bind; memory is an estimate."
        )?;
        writeln!(f, "{}", self.table())?;
        for (to, at) in [("on loopback", None), ("elsewhere", Some(ELSEWHERE))] {
            if let Some(ports) = self.limits.ports_to(at.as_ref(), 1) {
                writeln!(f, "keep_alive = false towards a target {to}: {ports}")?;
            }
        }
        let Some(lanes) = self.lanes else { return Ok(()) };
        let lanes = format_count(u64::from(lanes));
        for engine in &self.engines {
            match &engine.hit {
                None => writeln!(f, "{lanes} lanes under {} fit", engine.engine.name())?,
                Some(hit) => writeln!(f, "{hit}")?,
            }
        }
        Ok(())
    }
}
