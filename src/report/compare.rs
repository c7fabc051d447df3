//! Two run directories, cell by cell: what became dearer or slower, beyond the spread of trials.
//!
//! Trials of two runs have no block in common, so each ratio B ÷ A is a Hodges–Lehmann shift of
//! logarithms with a Mann–Whitney interval. Holm's correction goes over all ratios of the report: the
//! more cells, the less often one of them cries wolf.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::Value;

use super::layout::clean;
use super::measures::{self, Better, Measure, Place};
use super::summary::is_valid;
use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::results::store::Run;
use crate::stats::{
    Comparison as Judged, MARGIN, RATIO_CONFIDENCE, Verdict, judge, median, unpaired_ratio,
};
use crate::units::Ratio;

/// One measure of one cell in both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Cell id.
    pub cell: String,
    /// What is compared.
    pub measure: Measure,
    /// Median over the valid trials of A.
    pub a: f64,
    /// Median over the valid trials of B.
    pub b: f64,
    /// The ratio B ÷ A, judged among all lines.
    pub ratio: Judged,
}

impl Line {
    /// Whether B is worse than A, beyond the interval and after the correction.
    pub fn is_regression(&self) -> bool {
        let worse = match self.measure.facts().better {
            Better::More => Verdict::Lower,
            Better::Less | Better::Neither => Verdict::Higher,
        };
        self.ratio.verdict == worse
    }
}

/// Two runs against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// One a cell and measure, in the order of A's cells.
    pub lines: Vec<Line>,
    /// What could not be compared, one sentence each.
    pub notes: Vec<String>,
}

/// Why two runs cannot be compared, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the runs are not comparable: {}", .0.join("; "))]
pub struct NotComparable(pub Vec<String>);

/// Compares run `b` with run `a`, the reference.
///
/// # Errors
/// Where target, plan or machine differ, or no cell has a valid trial in both runs. The sweeps may
/// differ: cells that only one run has are noted.
pub fn compare(a: &Run, b: &Run) -> Result<Comparison, NotComparable> {
    let mut reasons = Vec::new();
    for part in ["target", "plan"] {
        differences(part, &a.plan.config[part], &b.plan.config[part], &mut reasons);
    }
    differences("machine", &a.plan.machine, &b.plan.machine, &mut reasons);
    if !reasons.is_empty() {
        return Err(NotComparable(reasons));
    }
    let (trials_a, trials_b) = (valid_by_cell(a), valid_by_cell(b));
    let mut notes = Vec::new();
    let mut lines = Vec::new();
    for cell in a.plan.cells.iter().filter(|c| is_timed(c)) {
        match (trials_a.get(cell.id.as_str()), trials_b.get(cell.id.as_str())) {
            (Some(x), Some(y)) => {
                let all = measures::shown(Place::Compare);
                lines.extend(all.filter_map(|m| line(&cell.id, m.measure, x, y)));
            }
            (x, y) => {
                for (side, trials) in [("A", x), ("B", y)] {
                    if trials.is_none() {
                        notes.push(format!("{}: no valid trial in {side}", cell.id));
                    }
                }
            }
        }
    }
    for cell in b.plan.cells.iter().filter(|c| is_timed(c)) {
        if !a.plan.cells.iter().any(|c| c.id == cell.id) {
            notes.push(format!("{}: only in B", cell.id));
        }
    }
    if lines.is_empty() {
        return Err(NotComparable(vec!["no cell has a valid trial in both".into()]));
    }
    judge(lines.iter_mut().map(|l| &mut l.ratio), MARGIN);
    Ok(Comparison { lines, notes })
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
        _ if a == b => {}
        _ => out.push(format!("{path} is {a} in A and {b} in B")),
    }
}

/// Whether a cell's times may be compared: splitting memory and counting events cost time themselves.
fn is_timed(cell: &Cell) -> bool {
    !cell.is_memory() && !cell.counts_events()
}

fn valid_by_cell(run: &Run) -> BTreeMap<&str, Vec<&TrialRecord>> {
    let mut cells: BTreeMap<&str, Vec<&TrialRecord>> = BTreeMap::new();
    for record in run.records.iter().filter(|r| is_valid(r) && is_timed(&r.cell)) {
        cells.entry(&record.cell.id).or_default().push(record);
    }
    cells
}

/// A value to be compared: the schedule, not the engine, decides what an open loop achieves.
fn value(measure: Measure, record: &TrialRecord) -> Option<f64> {
    let scheduled = measure == Measure::Achieved && record.cell.arrivals.is_open();
    measure.of(record).filter(|v| *v > 0.0 && !scheduled)
}

fn line(cell: &str, measure: Measure, a: &[&TrialRecord], b: &[&TrialRecord]) -> Option<Line> {
    let values = |trials: &[&TrialRecord]| -> Vec<f64> {
        trials.iter().filter_map(|t| value(measure, t)).collect()
    };
    let (x, y) = (values(a), values(b));
    let estimate = unpaired_ratio(&y, &x, RATIO_CONFIDENCE)?;
    let ratio = Judged::alone(estimate, None, MARGIN);
    Some(Line { cell: cell.into(), measure, a: median(&x)?, b: median(&y)?, ratio })
}

impl Comparison {
    /// The lines in which B is worse; the command ends with exit code 3 if there is one.
    pub fn regressions(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|l| l.is_regression())
    }

    /// The comparison for a terminal.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        let rule = LineStyle::none().fill('─').junction('─');
        table
            .load_style(TableStyle::new().header_separator(rule))
            .set_header(["cell", "measure", "A", "B", "B ÷ A", "verdict"]);
        for l in &self.lines {
            let interval =
                l.ratio.estimate.interval().map(|(low, high)| format!(" [{low:.2}, {high:.2}]"));
            table.add_row([
                clean(&l.cell),
                l.measure.words(),
                l.measure.print(l.a),
                l.measure.print(l.b),
                format!("{}{}", Ratio(l.ratio.estimate.ratio), interval.unwrap_or_default()),
                word(l),
            ]);
        }
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 1));
            if (2..=4).contains(&i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut out = String::new();
        for line in table.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        for note in &self.notes {
            out.push_str(&clean(note));
            out.push('\n');
        }
        let worse = self.regressions().count();
        out.push_str(&format!("{worse} of {} figures are worse in B\n", self.lines.len()));
        out
    }
}

fn word(line: &Line) -> String {
    match line.ratio.verdict {
        Verdict::Higher | Verdict::Lower if line.is_regression() => "WORSE".into(),
        Verdict::Higher | Verdict::Lower => "better".into(),
        said => format!("{}{said}", said.mark()),
    }
}
