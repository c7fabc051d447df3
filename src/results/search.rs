//! From rows to the highest rate that meets an SLO: what each probe says, what comes next, and what
//! may be concluded. Pure: a search is its rows, in their order, so that resuming and reporting
//! replay what running did.
//!
//! Whether a probe meets a bound is decided on *shares*: p99 ≤ 40 ms means that at most 1 % of the
//! planned requests took longer, lost ones included; see [`mod@judge`].

mod judge;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use judge::Judged;
pub use judge::{ProbeAnswer, Share, judge, shown, trial};

use crate::format::gates::{GateKind, meaning};
use crate::format::{Flag, Gate, Reason, Status, TrialRecord};
use crate::plan::cell::Key;
use crate::plan::search::{Bound, Next, ProbeReply, Rung, Search, at_share, closed, probe};
use crate::plan::sweep::Sweep;
use crate::plan::{Arrivals, Axis, Cell, CellKind};

/// Closed loops that are tried before a search is given up.
const MOST_STARTS: usize = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub rung: Rung,
    pub rate_per_s: f64,
    pub trials: Vec<Judged>,
    /// What follows from them; `None` while more are needed.
    pub answer: Option<ProbeAnswer>,
}

/// The search of one cell, as far as its rows go.
#[derive(Debug, Clone)]
pub struct SearchProgress {
    pub cell: Cell,
    search: Search,
    bounds: Vec<Bound>,
    /// What each closed loop completed, requests per second; `None` of one that shows nothing.
    starts: Vec<Option<f64>>,
    pub probes: Vec<Probe>,
    stopped: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SearchStep {
    /// Run a trial of this cell, in this block.
    Run(Cell, u32),
    Over(SearchOutcome),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "conclusion")]
pub enum SearchOutcome {
    /// The knee lies between two rates.
    Found {
        met_per_s: f64,
        missed_per_s: f64,
        because: ProbeAnswer,
        /// Rates between the two at which neither could be shown, requests per second.
        undecided_per_s: Vec<f64>,
    },
    /// Not even the lowest rate met it.
    NeverMet { lowest_per_s: f64, because: ProbeAnswer },
    /// The highest rate that may be tried met it.
    NeverMissed { highest_per_s: f64 },
    /// The probes ran out first.
    OutOfProbes { met_per_s: Option<f64>, missed_per_s: Option<f64>, because: Option<ProbeAnswer> },
    /// The knee cannot be concluded.
    Nothing { why: String, met_per_s: Option<f64>, missed_per_s: Option<f64> },
}

impl SearchOutcome {
    pub fn met_per_s(&self) -> Option<f64> {
        match self {
            SearchOutcome::Found { met_per_s, .. } => Some(*met_per_s),
            SearchOutcome::NeverMissed { highest_per_s } => Some(*highest_per_s),
            SearchOutcome::OutOfProbes { met_per_s, .. }
            | SearchOutcome::Nothing { met_per_s, .. } => *met_per_s,
            SearchOutcome::NeverMet { .. } => None,
        }
    }

    pub(crate) fn missed_per_s(&self) -> Option<f64> {
        match self {
            SearchOutcome::Found { missed_per_s, .. } => Some(*missed_per_s),
            SearchOutcome::NeverMet { lowest_per_s, .. } => Some(*lowest_per_s),
            SearchOutcome::OutOfProbes { missed_per_s, .. }
            | SearchOutcome::Nothing { missed_per_s, .. } => *missed_per_s,
            SearchOutcome::NeverMissed { .. } => None,
        }
    }

    /// The highest rate that met the SLO, where a higher one is known not to; else why there is none.
    pub(crate) fn knee_per_s(&self) -> Result<f64, Reason> {
        let why = match self {
            SearchOutcome::Found { met_per_s, .. } => return Ok(*met_per_s),
            SearchOutcome::OutOfProbes { met_per_s: Some(met), missed_per_s: Some(_), .. } => {
                return Ok(*met);
            }
            SearchOutcome::OutOfProbes { .. } => "the probes ran out: raise search.probes".into(),
            SearchOutcome::NeverMet { because: ProbeAnswer::Generator { why }, .. } => {
                format!("the lowest rate could not be offered: {why}")
            }
            SearchOutcome::NeverMet { .. } => "no rate met the SLO".into(),
            SearchOutcome::NeverMissed { .. } => {
                "every rate met the SLO: raise search.max_rate".into()
            }
            SearchOutcome::Nothing { why, .. } => why.clone(),
        };
        Err(why.into())
    }
}

impl SearchProgress {
    /// A search of `cell` that has not begun, for the highest rate at which every bound is met.
    pub fn new(cell: &Cell, search: Search, bounds: Vec<Bound>) -> SearchProgress {
        SearchProgress {
            cell: cell.clone(),
            search,
            bounds,
            starts: vec![],
            probes: vec![],
            stopped: None,
        }
    }

    /// The bounds of the SLO, in the order of each [`Judged`]'s shares.
    pub fn bounds(&self) -> &[Bound] {
        &self.bounds
    }

    pub(crate) fn closed_per_s(&self) -> Option<f64> {
        self.starts.iter().flatten().copied().next()
    }

    pub fn starts(&self) -> usize {
        self.starts.len()
    }

    /// Takes a row of this search; interrupted ones count for nothing.
    pub fn add(&mut self, record: &TrialRecord) {
        if record.status == Status::Interrupted {
            return;
        }
        if record.status == Status::Failed {
            let why = record.error.as_deref().unwrap_or("no reason was recorded");
            self.stopped.get_or_insert(format!("a trial of {} failed: {why}", record.cell.id));
        }
        match record.cell.offered_per_s {
            Some(rate) if record.cell.arrivals != Arrivals::Closed => self.add_probe(rate, record),
            _ => self.add_start(record),
        }
    }

    fn add_start(&mut self, record: &TrialRecord) {
        // A noisy one shows where to begin all the same, and so does one that the client slowed down.
        let by_client = |gate: &Gate| gate.is(GateKind::ClientCpu);
        let slow = record.status == Status::Invalid && failed_gates(record).all(by_client);
        let sound = (record.status == Status::Ok || slow) && record.achieved_per_s > 0.0;
        self.starts.push(sound.then_some(record.achieved_per_s));
        if self.closed_per_s().is_none() && self.starts.len() >= MOST_STARTS {
            let why = record.error.clone().unwrap_or_else(|| gates_of(record));
            self.stopped.get_or_insert(format!(
                "none of {MOST_STARTS} closed-loop trials was valid, so the search has no rate to start from: {why}"
            ));
        }
    }

    fn add_probe(&mut self, rate_per_s: f64, record: &TrialRecord) {
        let rung = self.search.rung(rate_per_s);
        if self.probes.last().is_none_or(|p| p.rung != rung) {
            self.probes.push(Probe { rung, rate_per_s, trials: vec![], answer: None });
        }
        let Some(probe) = self.probes.last_mut() else { return };
        probe.trials.push(trial(record, &self.bounds));
        probe.answer =
            judge(&probe.trials, &self.bounds, self.search.trials, self.search.max_trials);
        if let Some(ProbeAnswer::Unknown { why }) = &probe.answer {
            let rate = crate::units::format_rate(rate_per_s);
            self.stopped.get_or_insert(format!("at {rate} req/s {why}"));
        }
    }

    pub fn step(&self) -> SearchStep {
        if let Some(why) = &self.stopped {
            return SearchStep::Over(self.nothing(why.clone()));
        }
        let Some(start) = self.closed_per_s() else {
            return SearchStep::Run(closed(&self.cell), self.starts.len() as u32);
        };
        if let Some(open) = self.probes.last().filter(|p| p.answer.is_none()) {
            return SearchStep::Run(probe(&self.cell, open.rate_per_s), open.trials.len() as u32);
        }
        let reply = |p: &Probe| match p.answer {
            Some(ProbeAnswer::Met) => ProbeReply::Met,
            // What the generator cannot offer cannot be searched above either.
            Some(ProbeAnswer::Missed { .. } | ProbeAnswer::Generator { .. }) => ProbeReply::Missed,
            Some(ProbeAnswer::Undecided | ProbeAnswer::Unknown { .. }) | None => {
                ProbeReply::Undecided
            }
        };
        let done: Vec<(Rung, ProbeReply)> =
            self.probes.iter().map(|p| (p.rung, reply(p))).collect();
        let rate = |rung| self.search.rate_per_s(rung);
        SearchStep::Over(match self.search.next(start, &done) {
            Next::Probe(rung) => return SearchStep::Run(probe(&self.cell, rate(rung)), 0),
            Next::Found { met, missed } => SearchOutcome::Found {
                met_per_s: rate(met),
                missed_per_s: rate(missed),
                because: self.why(missed),
                undecided_per_s: done
                    .iter()
                    .filter(|(rung, said)| {
                        *said == ProbeReply::Undecided && met < *rung && *rung < missed
                    })
                    .map(|(rung, _)| rate(*rung))
                    .collect(),
            },
            Next::NeverMet(rung) => match self.why(rung) {
                // Which says nothing of the target.
                ProbeAnswer::Generator { why } => {
                    self.nothing(format!("duel could not offer even the lowest rate: {why}"))
                }
                because => SearchOutcome::NeverMet { lowest_per_s: rate(rung), because },
            },
            Next::NeverMissed(rung) => SearchOutcome::NeverMissed { highest_per_s: rate(rung) },
            Next::OutOfProbes { met, missed } => SearchOutcome::OutOfProbes {
                met_per_s: met.map(rate),
                missed_per_s: missed.map(rate),
                because: missed.map(|rung| self.why(rung)),
            },
        })
    }

    /// Nothing more than the probes before say.
    fn nothing(&self, why: String) -> SearchOutcome {
        let known = |met: bool| {
            let judged = self.probes.iter().filter(move |p| match &p.answer {
                None | Some(ProbeAnswer::Unknown { .. } | ProbeAnswer::Undecided) => false,
                Some(ProbeAnswer::Generator { .. }) => false,
                Some(answer) => (*answer == ProbeAnswer::Met) == met,
            });
            judged.map(|p| p.rate_per_s)
        };
        SearchOutcome::Nothing {
            why,
            met_per_s: known(true).reduce(f64::max),
            missed_per_s: known(false).reduce(f64::min),
        }
    }

    fn why(&self, rung: Rung) -> ProbeAnswer {
        let answer = self.probes.iter().find(|p| p.rung == rung).and_then(|p| p.answer.clone());
        answer.unwrap_or(ProbeAnswer::Undecided)
    }

    /// The outcome; where rows are missing, that they are.
    pub fn outcome(&self) -> SearchOutcome {
        match self.step() {
            SearchStep::Over(outcome) => outcome,
            SearchStep::Run(cell, _) => {
                self.nothing(format!("the search was stopped before {} was judged", cell.id))
            }
        }
    }
}

/// Every search of a sweep as far as its rows go; none where nothing is searched.
pub fn searches(sweep: &Sweep, records: &[TrialRecord]) -> Vec<SearchProgress> {
    let of = |search| replay(&sweep.cells(), search, &sweep.bounds(), records);
    sweep.search.map_or(Vec::new(), of)
}

pub fn replay(
    cells: &[Cell],
    search: Search,
    bounds: &[Bound],
    records: &[TrialRecord],
) -> Vec<SearchProgress> {
    let new = |cell| SearchProgress::new(cell, search, bounds.to_vec());
    let mut all: Vec<SearchProgress> = cells.iter().map(new).collect();
    let at: BTreeMap<_, usize> = cells.iter().enumerate().map(|(i, c)| (key(c), i)).collect();
    for record in records.iter().filter(|r| r.flags.contains(&Flag::Search)) {
        if let Some(i) = at.get(&key(&record.cell)) {
            all[*i].add(record);
        }
    }
    all
}

/// The cells of the sweep that follows a search, each with the reason where its search found no knee.
pub(crate) fn at_shares(sweep: &Sweep, records: &[TrialRecord]) -> Vec<(Cell, Option<String>)> {
    if sweep.axes.knee_shares.is_empty() {
        return Vec::new();
    }
    let all = searches(sweep, records);
    let of = |one: &SearchProgress| {
        let knee = one.outcome().knee_per_s();
        let why = knee.as_ref().err();
        let why = why.map(|w| format!("no knee was found, of which this would be a share: {w}"));
        let at = |share| (at_share(&one.cell, share, knee.clone().ok()), why.clone());
        sweep.axes.knee_shares.iter().map(|share| at(*share)).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// What the rows of one search share: its probes differ in load alone.
fn key(cell: &Cell) -> (CellKind, Key) {
    (cell.kind, cell.except(&[Axis::Load]))
}

fn failed_gates(record: &TrialRecord) -> impl Iterator<Item = &Gate> {
    record.gates.iter().filter(|g| g.hard && g.failed())
}

fn gates_of(record: &TrialRecord) -> String {
    let words = |gate: &Gate| meaning(&gate.name).unwrap_or(&gate.name).to_string();
    let failed: Vec<String> = failed_gates(record).map(words).collect();
    if failed.is_empty() { "nothing completed".into() } else { failed.join("; ") }
}
