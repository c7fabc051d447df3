//! Runs before and after, cell by cell: what became more expensive or slower, and what was lost.
//!
//! With one run on each side, each ratio B ÷ A is a Hodges–Lehmann shift of logarithms with a
//! Mann–Whitney interval over trials. Trials of one run share whatever drifted between the runs, so
//! that a difference counts only where the whole interval lies beyond a minimum effect, and the output
//! says so. With several runs on each side the run is the unit: Student's interval of the logarithms of
//! their medians. Targets that one run compared are paired within its blocks instead, which share what
//! drifts. Holm's correction goes over all ratios of the report.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::layout::{Column, ColumnKind, Columns, clean};
use super::measures::{self, Better, Measure, ShownIn, Unit, compared};
use super::summary::{Blocks, by_block, is_valid, paired, values};
use super::{markdown, table};
use crate::format::{Status, TrialRecord};
use crate::plan::{Axis, Cell, RequestTemplate};
use crate::results::store::Run;
use crate::stats::{
    Comparison as Judged, MARGIN, RATIO_CONFIDENCE, RatioEstimate, Verdict, judge, log_t_ratio,
    lost_p_value, median, paired_ratio, unpaired_ratio,
};
use crate::units::{Ratio, format_share};

#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub cell: String,
    pub measure: Measure,
    pub a: f64,
    pub b: f64,
    /// The ratio B ÷ A, judged among all lines.
    pub ratio: Judged,
    /// Smallest difference that counts: 0.05 is 5 %.
    pub min_effect: f64,
}

impl Line {
    /// Whether B is worse than A: after the correction, with the whole interval beyond the minimum
    /// effect.
    pub(crate) fn is_regression(&self) -> bool {
        let more = self.measure.facts().better == Better::More;
        self.is_beyond()
            && self.ratio.verdict == if more { Verdict::Lower } else { Verdict::Higher }
    }

    /// Whether the whole interval lies beyond the minimum effect.
    fn is_beyond(&self) -> bool {
        let least = 1.0 + self.min_effect;
        let interval = self.ratio.estimate.interval();
        interval.is_some_and(|(low, high)| low > least || high < 1.0 / least)
    }

    fn word(&self) -> String {
        match self.ratio.verdict {
            _ if self.is_regression() => "WORSE".into(),
            Verdict::Higher | Verdict::Lower if self.is_beyond() => "better".into(),
            Verdict::Higher | Verdict::Lower => {
                format!("differs, perhaps by under {}", format_share(self.min_effect))
            }
            said => format!("{}{said}", said.mark()),
        }
    }
}

/// Requests that were lost in a cell: failed, timed out or never sent, of those planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    pub cell: String,
    pub a: (u64, u64),
    pub b: (u64, u64),
    /// Of the exact test that both lose the same share.
    pub p_value: f64,
    /// Whether B lost more, after Bonferroni's correction over the cells.
    pub is_regression: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunComparison {
    /// One per cell and measure, in the order of A's cells.
    pub lines: Vec<Line>,
    /// One per cell in which either lost a request.
    pub lost: Vec<Lost>,
    /// Runs of each side; of targets of one run, none.
    pub runs: (usize, usize),
    /// What could not be compared, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the runs are not comparable: {}", .0.join("; "))]
pub struct NotComparable(pub Vec<String>);

/// Compares runs `b` with runs `a`, the reference; differences below `min_effect` count for nothing.
///
/// # Errors
/// Where target, plan or machine differ, or no cell has a valid trial in both. The sweeps may differ:
/// cells that only one side has are noted.
pub fn compare(a: &[&Run], b: &[&Run], min_effect: f64) -> Result<RunComparison, NotComparable> {
    let (Some(first), Some(other)) = (a.first(), b.first()) else {
        return Err(NotComparable(vec!["there is no run on one of the sides".into()]));
    };
    let mut reasons = Vec::new();
    for run in a.iter().chain(b).skip(1) {
        let (a, b) = (&first.plan.config, &run.plan.config);
        differences("target", &a["target"], &b["target"], &mut reasons);
        differences("plan", &by_digest(&a["plan"]), &by_digest(&b["plan"]), &mut reasons);
        differences("machine", &first.plan.machine, &run.plan.machine, &mut reasons);
    }
    if !reasons.is_empty() {
        reasons.dedup();
        return Err(NotComparable(reasons));
    }
    let mut found = RunComparison { runs: (a.len(), b.len()), ..RunComparison::default() };
    for cell in first.plan.cells.iter().filter(|c| is_timed(c)) {
        let [x, y] = [a, b].map(|runs| {
            runs.iter().map(|run| trials_of(run, &cell.id)).collect::<Vec<Vec<&TrialRecord>>>()
        });
        found.lost.extend(lost((&cell.id, a), (&cell.id, b)));
        for (side, runs) in [("A", &x), ("B", &y)] {
            if runs.iter().all(Vec::is_empty) {
                found.notes.push(format!("{}: no valid trial in {side}", cell.id));
            }
        }
        for measure in measures::shown(ShownIn::Compare).map(|facts| facts.measure) {
            if x.iter().chain(&y).flatten().any(|t| measure.is_lost(t)) {
                found.notes.push(lost_note(&cell.id, measure));
            } else {
                found.lines.extend(line(&cell.id, measure, &x, &y, min_effect));
            }
        }
    }
    for cell in other.plan.cells.iter().filter(|c| is_timed(c)) {
        if !first.plan.cells.iter().any(|c| c.id == cell.id) {
            found.notes.push(format!("{}: only in B", cell.id));
        }
    }
    judged(found, "no cell has a valid trial in both")
}

/// Compares the targets of one run with the first of them, block by block.
///
/// # Errors
/// Where the run has one target, or no block in which two of them have a valid trial.
pub(crate) fn compare_targets(run: &Run, min_effect: f64) -> Result<RunComparison, NotComparable> {
    let cells = || run.plan.cells.iter().filter(|c| is_timed(c) && c.target.is_some());
    if cells().next().is_none() {
        let why = "name two runs, or one that compared several [[sweep.target]]";
        return Err(NotComparable(vec![why.into()]));
    }
    let mut found = RunComparison::default();
    for cell in cells().filter(|c| c.target_nth != Some(0)) {
        let alike = |c: &&Cell| {
            let key = |c: &Cell| (c.kind, c.except(&[Axis::Target]));
            c.target_nth == Some(0) && key(c) == key(cell)
        };
        let Some(first) = cells().find(alike) else { continue };
        found.lost.extend(lost((&first.id, &[run]), (&cell.id, &[run])));
        let [a, b] = [first, cell].map(|cell| blocks_of(run, &cell.id));
        if paired(&b, &a).next().is_none() {
            found.notes.push(format!("{}: no block with a valid trial of both", cell.id));
        }
        for measure in compared(cell).map(|facts| facts.measure) {
            let Some(mut values) = values(measure, &b, &a) else {
                found.notes.push(lost_note(&cell.id, measure));
                continue;
            };
            values.retain(|(b, a)| *b > 0.0 && *a > 0.0);
            let Some(estimate) = paired_ratio(&values, RATIO_CONFIDENCE) else { continue };
            let (y, x): (Vec<f64>, Vec<f64>) = values.into_iter().unzip();
            found.lines.extend(line_of(&cell.id, measure, &x, &y, estimate, min_effect));
        }
    }
    judged(found, "no two targets have a valid trial in the same block")
}

/// Judges all lines together; an error where there is none.
fn judged(mut found: RunComparison, why_none: &str) -> Result<RunComparison, NotComparable> {
    if found.lines.is_empty() {
        return Err(NotComparable(vec![why_none.into()]));
    }
    judge(found.lines.iter_mut().map(|l| &mut l.ratio), MARGIN);
    let level = (1.0 - RATIO_CONFIDENCE) / found.lost.len().max(1) as f64;
    for lost in &mut found.lost {
        lost.is_regression = lost.p_value <= level && share(lost.b) > share(lost.a);
    }
    Ok(found)
}

fn share((lost, planned): (u64, u64)) -> f64 {
    lost as f64 / planned.max(1) as f64
}

fn lost_note(cell: &str, measure: Measure) -> String {
    let what = measure.words();
    format!("{cell}: so many requests were lost that the {what} has no ratio; see `requests lost`")
}

/// A plan with the digests of its bodies in their place, wherever they came from.
fn by_digest(plan: &Value) -> Value {
    let mut plan = plan.clone();
    for entry in plan.get_mut("mix").and_then(Value::as_array_mut).into_iter().flatten() {
        let read = serde_json::from_value::<RequestTemplate>(entry.clone());
        if let (Ok(template), Some(entry)) = (read, entry.as_object_mut()) {
            entry.insert("body".into(), template.body_sha256().into());
            entry.remove("body_file");
        }
    }
    plan
}

/// Notes each leaf that differs, by its path.
fn differences(path: &str, a: &Value, b: &Value, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let mut keys: Vec<&String> = x.keys().chain(y.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = format!("{path}.{key}");
                differences(&at, a.get(key).unwrap_or(&Value::Null), &b[key], out);
            }
        }
        (Value::Array(x), Value::Array(y)) if a != b => {
            for i in 0..x.len().max(y.len()) {
                let of = |all: &Vec<Value>| all.get(i).cloned().unwrap_or_default();
                differences(&format!("{path}[{i}]"), &of(x), &of(y), out);
            }
        }
        _ if a == b => {}
        _ => {
            out.push(format!("{} is {} in A and {} in B", key(path), told(path, a), told(path, b)));
        }
    }
}

/// A leaf of the resolved plan as the config's key that it comes from.
fn key(path: &str) -> String {
    let inner = ["embedded", "external", "extent"];
    let parts: Vec<&str> = path.split('.').filter(|part| !inner.contains(part)).collect();
    let key = parts.join(".").replace("plan.mix[", "plan.request[");
    Unit::of_field(&key).0.into()
}

fn told(path: &str, value: &Value) -> String {
    match (value, Unit::of_field(path).1.zip(value.as_f64())) {
        (_, Some((unit, value))) => unit.print(value),
        (Value::Null, _) => "not set".into(),
        // What else it holds is of no help.
        (Value::Object(_), _) => "set".into(),
        _ => value.to_string(),
    }
}

/// Whether a cell's times may be compared: splitting memory and counting events cost time themselves.
fn is_timed(cell: &Cell) -> bool {
    !cell.is_memory() && !cell.counts_events()
}

fn blocks_of<'r>(run: &'r Run, cell: &str) -> Blocks<'r> {
    by_block(&run.records.iter().filter(|r| r.cell.id == cell).collect::<Vec<_>>())
}

fn trials_of<'r>(run: &'r Run, cell: &str) -> Vec<&'r TrialRecord> {
    blocks_of(run, cell).into_values().filter(|r| is_valid(r)).collect()
}

/// Requests lost in trials that ended, valid or not: a trial may be invalid for its losses.
fn lost((cell_a, a): (&str, &[&Run]), (cell, b): (&str, &[&Run])) -> Option<Lost> {
    let count = |id: &str, runs: &[&Run]| {
        let ended = |r: &&TrialRecord| matches!(r.status, Status::Ok | Status::Invalid);
        let trials = runs.iter().flat_map(|run| blocks_of(run, id).into_values()).filter(ended);
        trials.fold((0, 0), |(lost, all), t| (lost + t.ledger.lost(), all + t.ledger.planned))
    };
    let (a, b) = (count(cell_a, a), count(cell, b));
    (a.0 + b.0 > 0).then(|| {
        let p_value = lost_p_value(a, b);
        Lost { cell: cell.into(), a, b, p_value, is_regression: false }
    })
}

/// A value to be compared: the schedule, not the engine, decides what an open loop achieves.
fn value(measure: Measure, record: &TrialRecord) -> Option<f64> {
    let scheduled = measure == Measure::Achieved && record.cell.arrivals.is_open();
    measure.of(record).filter(|v| *v > 0.0 && !scheduled)
}

fn line(
    cell: &str,
    measure: Measure,
    a: &[Vec<&TrialRecord>],
    b: &[Vec<&TrialRecord>],
    min_effect: f64,
) -> Option<Line> {
    let of = |trials: &Vec<&TrialRecord>| -> Vec<f64> {
        trials.iter().filter_map(|t| value(measure, t)).collect()
    };
    // Of several runs each counts once.
    let by_run = a.len() > 1 || b.len() > 1;
    let values = |runs: &[Vec<&TrialRecord>]| -> Vec<f64> {
        match by_run {
            true => runs.iter().filter_map(|trials| median(&of(trials))).collect(),
            false => runs.first().map(of).unwrap_or_default(),
        }
    };
    let (x, y) = (values(a), values(b));
    let ratio = if by_run { log_t_ratio } else { unpaired_ratio };
    line_of(cell, measure, &x, &y, ratio(&y, &x, RATIO_CONFIDENCE)?, min_effect)
}

fn line_of(
    cell: &str,
    measure: Measure,
    a: &[f64],
    b: &[f64],
    estimate: RatioEstimate,
    min_effect: f64,
) -> Option<Line> {
    let ratio = Judged::alone(estimate, None, MARGIN);
    let (a, b) = (median(a)?, median(b)?);
    Some(Line { cell: cell.into(), measure, a, b, ratio, min_effect })
}

impl RunComparison {
    pub fn regressions(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|l| l.is_regression())
    }

    /// How many figures are worse in B; the command ends with exit code 3 if there is one.
    pub fn worse(&self) -> usize {
        self.regressions().count() + self.lost.iter().filter(|l| l.is_regression).count()
    }

    /// How many figures could be worse for all that is known: `--strict` ends with exit code 5.
    pub fn undecided(&self) -> usize {
        let open = |l: &&Line| matches!(l.ratio.verdict, Verdict::Undecided { .. });
        self.lines.iter().filter(open).count()
    }

    /// Rows of the comparison: cell, measure, A, B, ratio, verdict.
    fn rows(&self) -> Vec<[String; 6]> {
        let lines = self.lines.iter().map(|l| {
            let interval = l.ratio.estimate.interval();
            let interval = interval.map(|(low, high)| format!(" [{low:.2}, {high:.2}]"));
            let ratio = Ratio(l.ratio.estimate.ratio).to_string() + &interval.unwrap_or_default();
            let (a, b) = (l.measure.print(l.a), l.measure.print(l.b));
            [clean(&l.cell), l.measure.words(), a, b, ratio, l.word()]
        });
        let share = |of| format_share(share(of));
        let lost = self.lost.iter().map(|l| {
            let word = if l.is_regression { "WORSE" } else { "no increase shown" };
            let p = format!("p = {:.2e}", l.p_value);
            [clean(&l.cell), "requests lost".into(), share(l.a), share(l.b), p, word.into()]
        });
        lines.chain(lost).collect()
    }

    fn conclusion(&self) -> Vec<String> {
        let all = self.lines.len() + self.lost.len();
        let (worse, open) = (self.worse(), self.undecided());
        let mut said = vec![format!("{worse} of {all} figures are worse in B")];
        if open > 0 {
            let which = if open == self.lines.len() { "all" } else { "for" };
            said[0] += &format!("; cannot tell {which} {open}");
            said.push(
                "To tell more, run both sides longer or with more trials; with --strict this ends \
                 with exit code 5"
                    .into(),
            );
        }
        if self.lines.iter().any(|l| matches!(l.measure, Measure::P50 | Measure::P99)) {
            said.push(
                "p50 and p99 are those of the median trial; reports show those of all requests"
                    .into(),
            );
        }
        if self.runs == (0, 0) {
            said.push(
                "A is the first target and B the one in the heading. Both ran in the same rounds, so \
                 drift of the machine affects both alike"
                    .into(),
            );
        }
        if self.runs == (1, 1) {
            said.push(format!(
                "One run per side: drift of the machine between them cannot be told from a change, so \
                 only differences beyond {} count. To use runs as units: duel compare A1 A2 A3 --with \
                 B1 B2 B3",
                format_share(self.lines.first().map_or(0.0, |l| l.min_effect))
            ));
        }
        said
    }

    /// The comparison for a terminal of `width` columns: a table per cell.
    pub fn text(&self, width: Option<u16>) -> String {
        let rows = self.rows();
        let mut cells: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        let mut seen = BTreeSet::new();
        cells.retain(|cell| seen.insert(*cell));
        let mut out = String::new();
        for cell in cells {
            let of_cell: Vec<_> = rows.iter().filter(|row| row[0] == cell).collect();
            let columns = columns(&of_cell).split_off(1);
            out.push_str(&format!("{cell}\n{}\n", table::plain(columns, width)));
        }
        for note in self.notes.iter().chain(&self.conclusion()) {
            out.push_str(&format!("{}\n", clean(note)));
        }
        out
    }

    pub fn markdown(&self) -> String {
        let rows = self.rows();
        let mut out =
            markdown::table(&columns(&rows.iter().collect::<Vec<_>>()), |c| c.replace('|', "\\|"));
        out.push('\n');
        for note in self.notes.iter().chain(&self.conclusion()) {
            out.push_str(&format!("- {}\n", clean(note)));
        }
        out
    }

    pub fn json(&self) -> Value {
        let lines = self.lines.iter().map(|l| {
            let e = &l.ratio.estimate;
            json!({
                "cell": l.cell, "measure": l.measure.facts().name, "a": l.a, "b": l.b,
                "ratio": e.ratio, "low": e.low, "high": e.high, "adjusted_p": l.ratio.adjusted_p,
                "verdict": l.ratio.verdict.word(), "regression": l.is_regression(),
            })
        });
        let lost = self.lost.iter().map(|l| {
            json!({
                "cell": l.cell, "a_lost": l.a.0, "a_planned": l.a.1, "b_lost": l.b.0,
                "b_planned": l.b.1, "p_value": l.p_value, "regression": l.is_regression,
            })
        });
        json!({
            "runs": [self.runs.0, self.runs.1],
            "min_effect": self.lines.first().map(|l| l.min_effect),
            "figures": lines.collect::<Vec<_>>(), "lost": lost.collect::<Vec<_>>(),
            "worse": self.worse(), "undecided": self.undecided(), "notes": self.notes,
        })
    }
}

fn columns(rows: &[&[String; 6]]) -> Vec<Column> {
    let mut table = Columns::of(rows);
    for (i, head) in ["cell", "measure", "A", "B", "B ÷ A", "verdict"].into_iter().enumerate() {
        let kind = if (2..=4).contains(&i) { ColumnKind::Number } else { ColumnKind::Words };
        table.add(head, kind, |row| row[i].clone());
    }
    table.all()
}
