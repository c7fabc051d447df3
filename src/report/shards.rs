//! The shards behind a merged run: each one's own figures, and intervals over trials and shards.
//!
//! The merged rows hold sums; whether one machine did most of the work, or paid most for it, stands
//! here. A shard's interval is over its trials, the last line's over the shards' means: trials on
//! one machine are alike, so that more of them say nothing about other machines.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::csv::Fields;
use super::layout::{Columns, Section, clean};
use super::table;
use crate::format::{Cpu, Ledger, Memory, ShardStart, Status};
use crate::plan::shard::Shard;
use crate::results::store::SHARDS_FILE;
use crate::stats::{CONFIDENCE, student_t_quantile};
use crate::units::{format_bytes, format_count, format_ns};

/// More shards than this are shown as their extremes.
const MOST_SHOWN: usize = 16;
const FEWEST: usize = 3;

/// What is read of a shard's row; its histograms are skipped, which makes reading quick.
#[derive(Deserialize)]
struct ShardLine {
    shard: Option<Shard>,
    cell: CellId,
    status: Status,
    ledger: Ledger,
    cpu: Cpu,
    memory: Memory,
    #[serde(default)]
    shard_start: Option<ShardStart>,
}

#[derive(Deserialize)]
struct CellId {
    id: String,
}

/// The arithmetic mean, zero without values, and the half width of Student's interval; that is `None`
/// under three values.
fn mean(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    let half_width = || {
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let error = (squares / (n - 1) as f64 / n as f64).sqrt();
        student_t_quantile(0.5 + CONFIDENCE / 2.0, n - 1) * error
    };
    (mean, (n >= FEWEST).then(half_width))
}

fn show(values: &[f64], unit: fn(f64) -> String) -> Option<String> {
    let (mean, half) = mean(values);
    let half = half.map_or(String::new(), |half| format!(" ± {}", unit(half)));
    (!values.is_empty()).then(|| unit(mean) + &half)
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct OfShard {
    /// Rows, and those of them that are valid by themselves.
    pub trials: u64,
    pub(crate) ok: u64,
    pub completed: u64,
    /// One value per trial, of all shards one per shard.
    pub cpu_per_request_ns: Vec<f64>,
    pub peak_rss_bytes: Vec<f64>,
    pub late_ns: Option<u64>,
}

/// The shards of every cell, by cell id and shard.
pub type Shards = BTreeMap<String, BTreeMap<Shard, OfShard>>;

/// Reads the shards' rows of a merged run, one at a time; `None` where there are none.
///
/// # Errors
/// The file cannot be read, or a line of it is no row.
pub fn read(dir: &Path) -> anyhow::Result<Option<Shards>> {
    let path = dir.join(SHARDS_FILE);
    let mut input = match crate::sys::open_file(&path) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(anyhow::Error::new(e).context(path.display().to_string())),
    };
    let mut shards = Shards::new();
    let mut text = vec![];
    for number in 1.. {
        text.clear();
        if input.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let place = || format!("{}:{number}", path.display());
        let line: ShardLine =
            serde_json::from_slice(&text).map_err(|e| anyhow::anyhow!("{}: {e}", place()))?;
        anyhow::ensure!(line.ledger.balances(), "{}: the ledger does not balance", place());
        add(&mut shards, line);
    }
    Ok(Some(shards))
}

fn add(shards: &mut Shards, line: ShardLine) {
    let cell = shards.entry(line.cell.id).or_default();
    let seen = cell.entry(line.shard.unwrap_or(Shard::WHOLE)).or_default();
    seen.trials += 1;
    seen.ok += u64::from(line.status == Status::Ok);
    seen.completed += line.ledger.completed;
    if line.cpu.per_request_ns > 0.0 {
        seen.cpu_per_request_ns.push(line.cpu.per_request_ns);
        seen.peak_rss_bytes.push(line.memory.peak_rss_bytes as f64);
    }
    seen.late_ns = seen.late_ns.max(line.shard_start.and_then(|s| s.late_ns));
}

/// The shards of each cell as a table; of many, the least and the most of each figure.
pub(super) fn sections(shards: &Shards) -> Vec<Section> {
    let mut all: Vec<Section> = shards.iter().map(section).collect();
    if let Some(last) = all.last_mut() {
        last.notes.push("± 95 %: of a shard over its trials, of all over the shards' means".into());
    }
    all
}

fn section((id, cell): (&String, &BTreeMap<Shard, OfShard>)) -> Section {
    let mut rows: Vec<(String, OfShard)> = match cell.len() <= MOST_SHOWN {
        true => cell.iter().map(|(shard, s)| (format!("shard {shard}"), s.clone())).collect(),
        false => extremes(cell)
            .map(|(name, (shard, s))| (format!("{name} {}", shard.index), s.clone()))
            .into(),
    };
    let count = cell.keys().next().map_or(0, |shard| shard.count as usize);
    let all = match cell.len() == count {
        true => format!("{count} shards"),
        false => format!("{} of {count}", cell.len()),
    };
    rows.push((all, over(cell)));
    let mut table = Columns::of(&rows);
    table.text("shard", |(name, _)| name.clone());
    table.number("valid", |(_, s)| format!("{} of {}", s.ok, s.trials));
    table.number("completed", |(_, s)| format_count(s.completed));
    table.number("CPU\nper request", |(_, s)| show(&s.cpu_per_request_ns, format_ns));
    table.number("peak memory", |(_, s)| show(&s.peak_rss_bytes, format_bytes));
    table.number("late", |(_, s)| s.late_ns.map(|ns| format_ns(ns as f64)));
    table.section(format!("shards of {}", clean(id)), vec![])
}

/// The same for a terminal of `width` columns.
pub fn text(shards: &Shards, width: Option<u16>) -> String {
    table::sections(&sections(shards), width)
}

/// The cheapest and the most expensive shard by CPU per request, and the largest by memory.
fn extremes(cell: &BTreeMap<Shard, OfShard>) -> [(&'static str, (&Shard, &OfShard)); 3] {
    let by = |of: fn(&OfShard) -> f64| {
        let mut all: Vec<_> = cell.iter().collect();
        all.sort_by(|a, b| of(a.1).total_cmp(&of(b.1)));
        all
    };
    let cpu = by(|s| mean(&s.cpu_per_request_ns).0);
    let memory = by(|s| mean(&s.peak_rss_bytes).0);
    [("cheapest", cpu[0]), ("costliest", cpu[cpu.len() - 1]), ("largest", memory[memory.len() - 1])]
}

fn over(cell: &BTreeMap<Shard, OfShard>) -> OfShard {
    let means = |of: fn(&OfShard) -> &Vec<f64>| -> Vec<f64> {
        cell.values().map(of).filter(|values| !values.is_empty()).map(|v| mean(v).0).collect()
    };
    OfShard {
        trials: cell.values().map(|s| s.trials).sum(),
        ok: cell.values().map(|s| s.ok).sum(),
        completed: cell.values().map(|s| s.completed).sum(),
        cpu_per_request_ns: means(|s| &s.cpu_per_request_ns),
        peak_rss_bytes: means(|s| &s.peak_rss_bytes),
        late_ns: cell.values().filter_map(|s| s.late_ns).max(),
    }
}

/// One line per cell and shard, below a header that stands also where nothing ran.
pub fn csv(shards: &Shards) -> String {
    let mut out = row("", Shard::WHOLE, &OfShard::default()).head();
    for (id, cell) in shards {
        cell.iter().for_each(|(shard, s)| row(id, *shard, s).push_to(&mut out));
    }
    out
}

fn row(cell: &str, shard: Shard, s: &OfShard) -> Fields {
    let tenths = |value: Option<f64>| value.map(|v| format!("{v:.1}"));
    let (cpu, memory) = (mean(&s.cpu_per_request_ns), mean(&s.peak_rss_bytes));
    let mut row = Fields::default();
    row.put("cell", cell);
    row.put("shard", shard.index);
    row.put("shards", shard.count);
    row.put("trials", s.trials);
    row.put("valid", s.ok);
    row.put("completed", s.completed);
    row.maybe("cpu_per_request_ns", tenths(Some(cpu.0)));
    row.maybe("cpu_per_request_half_width_ns", tenths(cpu.1));
    row.put("peak_rss_bytes", format!("{:.0}", memory.0));
    row.maybe("peak_rss_half_width_bytes", tenths(memory.1));
    row.maybe("late_ns", s.late_ns);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // Mean 2, standard error 1/√3, t(0.975, 2) = 4.3027.
        let (middle, half) = mean(&[1.0, 2.0, 3.0]);
        assert!(middle == 2.0 && (half.unwrap() - 2.4841).abs() < 1e-3, "{half:?}");
        assert_eq!(mean(&[1.0, 2.0]).1, None);
    }

    #[test]
    fn tables_fit_a_terminal_and_every_line_of_the_csv_has_all_columns() {
        let times = vec![123.4, 150.0, 160.2];
        let one = OfShard {
            trials: 12,
            ok: 12,
            completed: 1_234_567,
            cpu_per_request_ns: times.clone(),
            peak_rss_bytes: vec![5e7, 6e7, 7.5e7],
            late_ns: Some(123_456),
        };
        for count in [3, 40] {
            let of = |index| (Shard { index, count }, one.clone());
            let shards: Shards = [("a,b".to_string(), (0..count).map(of).collect())].into();
            for line in text(&shards, Some(80)).lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            assert!(text(&shards, None).contains(&format!("{count} shards")));
            let csv = csv(&shards);
            assert_eq!(csv.lines().count(), 1 + count as usize);
            assert_eq!(csv.lines().next().unwrap().split(',').count(), 11);
            assert!(csv.lines().skip(1).all(|line| line.starts_with("\"a,b\",")), "{csv}");
        }
        assert_eq!(text(&Shards::new(), Some(80)), "");
        // A program that reads the file finds its columns where nothing ran, too.
        let head = "cell,shard,shards,trials,valid,completed,cpu_per_request_ns,\
            cpu_per_request_half_width_ns,peak_rss_bytes,peak_rss_half_width_bytes,late_ns\n";
        assert_eq!(csv(&Shards::new()), head);
    }
}
