//! What users of other load generators look for at the end of a quick look: requests by status code,
//! errors by kind with an example, bytes, every usual percentile and a small histogram.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;

use super::layout::{Column, Columns, clean, or_dash};
use super::summary::{self, Group};
use super::table;
use crate::format::{Bytes, Channel, ErrorKind, Errors, Ledger, TrialRecord};
use crate::stats::hdr;
use crate::terminal::wrap;
use crate::units::{format_bytes, format_count, format_ns, format_share};

/// Why a percentile is not there.
const FEW: &str = "- too few requests: p99 needs 1,000, p99.9 10,000, p99.99 100,000";
const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Most bars of a histogram, and the length of the longest.
const MOST_BARS: usize = 12;
const LONGEST_BAR: u64 = 12;
/// With fewer bars a histogram has no shape.
const FEWEST_BARS: usize = 4;

struct Served {
    name: String,
    ledger: Ledger,
    statuses: BTreeMap<String, u64>,
    errors: Errors,
    example: Option<String>,
    bytes: Bytes,
    seconds: f64,
    gave_up_ns: Option<u64>,
    times: Option<Histogram<u64>>,
}

impl Served {
    /// Counts of the trials behind a row, times of those that its levels come from.
    fn of(name: &str, used: &[&TrialRecord]) -> Served {
        let levels = summary::for_levels(used);
        // One that cannot be read is told below the table.
        let times =
            |channel| hdr::merge(levels.iter().copied(), |t| t.histogram(channel)).ok().flatten();
        let mut served = Served {
            name: name.into(),
            ledger: Ledger::default(),
            statuses: BTreeMap::new(),
            errors: Errors::default(),
            example: used.iter().find_map(|t| t.error.clone()),
            bytes: Bytes::default(),
            seconds: used.iter().map(|t| t.measured_ns as f64 / 1e9).sum(),
            gave_up_ns: None,
            times: times(Channel::Response).or_else(|| times(Channel::Service)),
        };
        for trial in used {
            served.ledger += &trial.ledger;
            served.errors += &trial.errors;
            served.bytes += &trial.bytes;
            for (code, count) in &trial.statuses {
                *served.statuses.entry(code.clone()).or_default() += count;
            }
        }
        let given_up = levels.iter().map(|t| t.ledger.timed_out).sum();
        let service = times(Channel::Service);
        served.gave_up_ns = service.and_then(|h| hdr::gave_up_ns(&h, given_up));
        served
    }

    fn per_second(&self, bytes: u64) -> String {
        format!("{}/s", format_bytes(bytes as f64 / self.seconds.max(1e-9)))
    }

    /// A percentile over all requests, those that were lost included; `None` of too few.
    fn quantile(&self, q: f64) -> Option<String> {
        if let Some(lost) = self.ledger.lost_beyond(q) {
            return Some(format!("lost {}", format_share(lost)));
        }
        let times = self.times.as_ref()?;
        // As many lost per sample as over all trials, of which these are a part.
        let kept = (self.ledger.completed + self.ledger.timed_out).max(1) as f64;
        let planned = (times.len() as f64 * self.ledger.planned as f64 / kept).round() as u64;
        Some(hdr::percentile(times, planned, q, self.gave_up_ns)?.to_string())
    }
}

/// One sentence in the place of all tables, where not one request completed.
pub(crate) fn all_failed(records: &[TrialRecord]) -> Option<String> {
    let sum = |of: fn(&Ledger) -> u64| -> u64 {
        records.iter().map(|r| of(&r.ledger) + of(&r.warmup)).sum()
    };
    let (failed, timed_out) = (sum(|l| l.failed), sum(|l| l.timed_out));
    if failed + timed_out == 0 || sum(|l| l.completed) > 0 {
        return None;
    }
    let all = format!("Failed: all {} requests", format_count(failed + timed_out));
    let answers: Vec<(&String, &u64)> = records.iter().flat_map(|r| &r.statuses).collect();
    let codes: BTreeSet<&String> = answers.iter().map(|(code, _)| *code).collect();
    if answers.iter().map(|(_, n)| **n).sum::<u64>() == failed + timed_out && codes.len() == 1 {
        return Some(format!("{all} got HTTP {}.\n", codes.into_iter().next()?));
    }
    if failed == 0 {
        return Some(format!("{all} timed out.\n"));
    }
    let first = records.iter().find_map(|r| r.first_error.as_deref());
    let first = clean(first.unwrap_or("no error was recorded"));
    // Not one connection could be made.
    let connects: u64 = records.iter().map(|r| r.errors.connect).sum();
    let hint = if connects == failed { " Is the server running?" } else { "" };
    Some(format!("{all} failed; first {first}.{hint}\n"))
}

/// The tables for a terminal of `width` columns; empty where no trial ran to its end.
pub(crate) fn text(records: &[TrialRecord], groups: &[Group], width: Option<u16>) -> String {
    let mut out = String::new();
    for group in groups.iter().filter(|g| !g.cell.is_idle()) {
        let rows = group.rows.iter().map(|row| (row, summary::behind(records, &row.cell)));
        let rows: Vec<Served> = rows
            .filter(|(_, used)| !used.is_empty())
            .map(|(row, used)| Served::of(&clean(&row.name), &used))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let open = group.cell.arrivals.is_open();
        out += &format!("\n{}", table::plain(counts(&rows, open), width));
        let mut notes = vec![];
        if rows.iter().any(|row| QUANTILES.iter().any(|(_, q)| row.quantile(*q).is_none())) {
            notes.push(FEW.to_string());
        }
        for row in rows.iter().filter(|row| row.errors.total() > 0) {
            let example = row.example.as_deref().unwrap_or("no text was recorded");
            notes.push(format!("{}: {}", row.name, clean(example)));
        }
        out.extend(notes.iter().flat_map(|note| wrap(note, width)).map(|line| line + "\n"));
        if let Some(bars) = bars(&rows, open) {
            out += &format!("\n{}", table::plain(bars, width));
        }
    }
    out
}

fn counts(rows: &[Served], open: bool) -> Vec<Column> {
    let mut lines: Vec<(String, Vec<String>)> = vec![];
    let mut line = |what: &str, of: &dyn Fn(&Served) -> String| {
        lines.push((what.into(), rows.iter().map(of).collect()));
    };
    let some = |count: fn(&Served) -> u64| rows.iter().any(|row| count(row) > 0);
    line("requests", &|r| format_count(r.ledger.planned));
    let codes: BTreeSet<&String> = rows.iter().flat_map(|r| r.statuses.keys()).collect();
    for code in codes {
        line(&format!("  status {code}"), &|r| {
            format_count(r.statuses.get(code).copied().unwrap_or(0))
        });
    }
    for kind in ErrorKind::ALL.iter().filter(|k| rows.iter().any(|r| r.errors.count(**k) > 0)) {
        line(&format!("  {} errors", kind.name()), &|r| format_count(r.errors.count(*kind)));
    }
    if some(|r| r.ledger.timed_out) {
        line("  timed out", &|r| format_count(r.ledger.timed_out));
    }
    if some(|r| r.ledger.unsent) {
        line("  never sent", &|r| format_count(r.ledger.unsent));
    }
    line("received", &|r| format_bytes(r.bytes.received as f64));
    line("received per second", &|r| r.per_second(r.bytes.received));
    line("sent", &|r| format_bytes(r.bytes.sent as f64));
    line("sent per second", &|r| r.per_second(r.bytes.sent));
    let time = |of: fn(&Histogram<u64>) -> f64| {
        move |r: &Served| or_dash(r.times.as_ref().map(|h| format_ns(of(h))))
    };
    let of_what = if open { "response time" } else { "service time" };
    line(&format!("{of_what}, min"), &time(|h| h.min() as f64));
    line("  mean", &time(Histogram::mean));
    for (name, q) in QUANTILES {
        line(&format!("  {name}"), &|r| or_dash(r.quantile(q)));
    }
    line("  max", &time(|h| h.max() as f64));
    let mut table = Columns::of(&lines);
    table.text("in all trials", |(what, _)| what.clone());
    for (i, row) in rows.iter().enumerate() {
        table.number(row.name.clone(), |(_, cells)| cells[i].clone());
    }
    table.all()
}

fn bars(rows: &[Served], open: bool) -> Option<Vec<Column>> {
    let all = || rows.iter().filter_map(|r| r.times.as_ref()).filter(|h| !h.is_empty());
    let (low, high) = (all().map(Histogram::min).min()?, all().map(Histogram::max).max()?);
    let bounds: Vec<(usize, u64)> = bounds(low, high).into_iter().enumerate().collect();
    let title = if open { "response time" } else { "service time" };
    let mut table = Columns::of(&bounds);
    table.number(format!("{title}\nup to"), |(_, ns)| format_ns(*ns as f64));
    for row in rows {
        let ends: Vec<u64> = bounds.iter().map(|(_, ns)| *ns).collect();
        let counts = row.times.as_ref().map_or(vec![0; ends.len()], |h| within(h, &ends));
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let width = counts.iter().map(|n| format_count(*n).len()).max().unwrap_or(0);
        table.text(row.name.clone(), |(i, _)| {
            let length = (counts[*i] * LONGEST_BAR).div_ceil(most) as usize;
            format!("{:>width$} {}", format_count(counts[*i]), "■".repeat(length))
        });
    }
    Some(table.all())
}

/// Samples up to each bound and above the one before.
fn within(h: &Histogram<u64>, bounds: &[u64]) -> Vec<u64> {
    let mut counts = vec![0; bounds.len()];
    for bucket in h.iter_recorded() {
        let at = bounds.partition_point(|b| *b < bucket.value_iterated_to());
        counts[at.min(bounds.len() - 1)] += bucket.count_at_value();
    }
    counts
}

/// Round bounds around all values, as fine as [`MOST_BARS`] allow.
fn bounds(low: u64, high: u64) -> Vec<u64> {
    let series: [&[u64]; 4] = [
        &[
            10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24, 26, 28, 30, 33, 36, 40, 45, 50, 55,
            60, 65, 70, 75, 80, 90,
        ],
        &[10, 12, 15, 20, 25, 30, 40, 50, 60, 80],
        &[10, 20, 50],
        &[10],
    ];
    let of = |steps: &[u64]| -> Vec<u64> {
        let all = (0..16u32).flat_map(|e| steps.iter().map(move |s| s * 10u64.pow(e)));
        let from_low: Vec<u64> = all.skip_while(|b| *b < low).collect();
        let last = from_low.iter().position(|b| *b >= high).unwrap_or(from_low.len() - 1);
        from_low[..=last].to_vec()
    };
    let mut all = series.iter().map(|steps| of(steps));
    let found = all.find(|bounds| bounds.len() <= MOST_BARS).unwrap_or_else(|| of(&[10]));
    if found.len() >= FEWEST_BARS {
        return found;
    }
    // All of it lies close together, as where the target waits: equal steps show its shape.
    let finest = (high - low).div_ceil(MOST_BARS as u64 - 2).max(1);
    let steps = (0..19u32).flat_map(|e| [1, 2, 5].map(|s| s * 10u64.pow(e)));
    let step = steps.into_iter().find(|step| *step >= finest).unwrap_or(finest);
    (low.div_ceil(step)..=high.div_ceil(step)).map(|n| n * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_run_is_told_by_what_failed_and_not_by_its_words() {
        let cell = crate::plan::Cell::plain(crate::plan::Engine::Threads, 4);
        let failed = |errors: Errors, first: &str| {
            let trial = TrialRecord {
                ledger: Ledger { planned: 9, failed: 9, ..Ledger::default() },
                errors,
                error: Some(format!("all 9 requests failed; first {first}; given up")),
                first_error: Some(first.into()),
                ..TrialRecord::blank("p".into(), "b".into(), 0, 0, cell.clone())
            };
            all_failed(&[trial]).expect("a sentence")
        };
        let connect = Errors { connect: 9, ..Errors::default() };
        let said = failed(connect, "connect error: Verbindungsaufbau abgelehnt");
        let sentence = "Failed: all 9 requests failed; first connect error: Verbindungsaufbau \
                        abgelehnt. Is the server running?\n";
        assert_eq!(said, sentence);
        let read = Errors { connect: 8, read: 1, ..Errors::default() };
        let said = failed(read, "read error: the proxy refused; given up; first of many");
        assert!(said.ends_with("first read error: the proxy refused; given up; first of many.\n"));
    }

    #[test]
    fn every_sample_stands_in_one_bar() {
        for (low, high) in [
            (1, 1),
            (9, 11),
            (80_000, 95_000),
            (200_100_000, 213_000_000),
            (200, 212),
            (50_000, 3_000_000),
            (1, 3_600e9 as u64),
        ] {
            let bounds = bounds(low, high);
            assert!(bounds.windows(2).all(|w| w[0] < w[1]), "{bounds:?}");
            assert!(bounds.len() <= MOST_BARS + 3 && *bounds.last().unwrap() >= high, "{bounds:?}");
            if high >= 100 {
                assert!(bounds.len() >= FEWEST_BARS, "{low} to {high} has a shape: {bounds:?}");
            }
            let mut h = crate::format::histogram::empty();
            for value in [low, low + (high - low) / 2, high] {
                h.record(value).unwrap();
            }
            assert_eq!(within(&h, &bounds).iter().sum::<u64>(), 3, "{bounds:?}");
        }
    }
}
