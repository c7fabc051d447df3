//! `cells.csv` and `trials.csv`: tidy, one row per cell or trial, units last in each name, empty where
//! nothing was measured.
//!
//! Times are nanoseconds and sizes bytes; `latency_*_ms` is response time, in a closed loop service
//! time, in the unit that people plot. Percentiles of service and response time at or above
//! `gave_up_ns` are lower bounds, since a request was given up there.

use std::ptr;

use serde_json::Value;

use super::measures::{self, Measure, ShownIn};
use super::summary::{Figures, Group, QUANTILES, Row, by_block, by_cell, is_quiet};
use crate::format::{Channel, Distribution, ErrorKind, Ledger, TrialRecord};
use crate::plan::{Axis, Cell};
use crate::stats::Comparison;

const TIMES: [(&str, Channel); 5] = [
    ("service", Channel::Service),
    ("response", Channel::Response),
    ("start_delay", Channel::StartDelay),
    ("pacer_delay", Channel::PacerDelay),
    ("lane_wait", Channel::LaneWait),
];

pub(super) type Field = (String, String);

/// Renders the groups of a sweep as CSV (RFC 4180, but for lines that end in a bare line feed).
pub fn render(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        for (i, row) in group.rows.iter().enumerate() {
            push_row(&mut out, &fields(group, i, row));
        }
    }
    out
}

/// Every trial in the order in which they ran. A repeat takes the place of the trial that it repeats,
/// which is then `superseded`.
pub fn trials(records: &[TrialRecord]) -> String {
    let stands: Vec<*const TrialRecord> = by_cell(records)
        .values()
        .flat_map(|trials| by_block(trials).into_values())
        .map(ptr::from_ref)
        .collect();
    let mut out = String::new();
    for record in records {
        push_row(&mut out, &trial(record, !stands.contains(&ptr::from_ref(record))));
    }
    out
}

fn trial(r: &TrialRecord, superseded: bool) -> Vec<Field> {
    let mut out = axes(&r.cell);
    let mut put = |name: &str, value: String| out.push((name.into(), value));
    put("block", r.block.to_string());
    put("trial", r.trial.to_string());
    put("status", plain(&serde_json::to_value(r.status).unwrap_or_default()));
    put("superseded", superseded.to_string());
    put("noisy", (!is_quiet(r)).to_string());
    put("flags", r.flags.join(" "));
    put("error", r.error.clone().unwrap_or_default());
    put("started_unix_ns", integer(r.started_unix_ns));
    ledger(&mut out, Some(&r.ledger));
    let mut put = |name: &str, value: String| out.push((name.into(), value));
    let statuses: Vec<String> = r.statuses.iter().map(|(code, n)| format!("{code}:{n}")).collect();
    put("statuses", statuses.join(" "));
    for kind in ErrorKind::ALL {
        put(&format!("errors_{}", kind.name()), r.errors.count(*kind).to_string());
    }
    put("bytes_received", r.bytes.received.to_string());
    put("bytes_sent", r.bytes.sent.to_string());
    let percentiles = |d: &Distribution| [d.p50, d.p90, d.p99, d.p99_9];
    for (name, channel) in TIMES {
        let all = r.histogram(channel).map(percentiles);
        for (i, (q, _)) in QUANTILES.iter().enumerate() {
            put(&format!("{name}_{q}_ns"), integer(all.map(|p| p[i])));
        }
    }
    let all = r.latency().map(percentiles);
    for (i, (q, _)) in QUANTILES.iter().enumerate() {
        put(&format!("latency_{q}_ms"), milliseconds(all.map(|p| p[i])));
    }
    for facts in measures::shown(ShownIn::Csv) {
        put(facts.name, number((facts.of)(r)));
    }
    out
}

pub(super) fn axes(cell: &Cell) -> Vec<Field> {
    let label = cell.kind.label().unwrap_or_default();
    let mut out = vec![("id".into(), cell.id.clone()), ("label".into(), label.into())];
    let fields = serde_json::to_value(cell).unwrap_or_default();
    out.extend(
        Axis::all().flat_map(Axis::fields).map(|name| ((*name).into(), plain(&fields[name]))),
    );
    out
}

pub(super) fn ledger(out: &mut Vec<Field>, ledger: Option<&Ledger>) {
    let fields = ledger.and_then(|l| serde_json::to_value(l).ok()).unwrap_or_default();
    for name in ["planned", "completed", "failed", "timed_out", "unsent"] {
        out.push((name.into(), plain(&fields[name])));
    }
}

/// A row, and before the first one the names.
pub(super) fn push_row(out: &mut String, fields: &[Field]) {
    if out.is_empty() {
        push_line(out, fields.iter().map(|(name, _)| name.as_str()));
    }
    push_line(out, fields.iter().map(|(_, value)| value.as_str()));
}

pub(super) fn push_line<'a>(out: &mut String, values: impl Iterator<Item = &'a str>) {
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(',');
        }
        if value.contains(['"', ',', '\n', '\r']) {
            out.push_str(&format!("\"{}\"", value.replace('"', "\"\"")));
        } else {
            out.push_str(value);
        }
    }
    out.push('\n');
}

fn fields(group: &Group, index: usize, row: &Row) -> Vec<Field> {
    let (c, t) = (&row.cell, &row.tally);
    let mut out = axes(c);
    let mut put = |name: &str, value: String| out.push((name.into(), value));
    for (name, count) in [
        ("trials", t.blocks),
        ("trials_valid", t.valid),
        ("trials_noisy", t.noisy),
        ("trials_invalid", t.invalid),
        ("trials_failed", t.failed),
        ("trials_interrupted", t.interrupted),
    ] {
        put(name, count.to_string());
    }
    put("ranked", (row.ranked && !c.counts_events()).to_string());
    put("flags", row.flags.iter().cloned().collect::<Vec<_>>().join(" "));
    put("error", row.errors.keys().cloned().collect::<Vec<_>>().join("; "));
    figures(&mut out, row.figures.as_ref());
    let own = (group.reference == Some(index)).then_some("baseline");
    for (name, measure) in [
        ("cpu", Measure::CpuPerRequest),
        ("memory", Measure::Memory),
        ("achieved", Measure::Achieved),
        ("p50", Measure::P50),
        ("p99", Measure::P99),
    ] {
        let own = own.filter(|_| measures::compared(c).any(|facts| facts.measure == measure));
        comparison(&mut out, name, row.ratio(measure), own);
    }
    out
}

fn figures(out: &mut Vec<Field>, figures: Option<&Figures>) {
    ledger(out, figures.map(|f| &f.ledger));
    let mut put = |name: &str, value: String| out.push((name.into(), value));
    put("gave_up_ns", integer(figures.and_then(|f| f.gave_up_ns)));
    for (name, channel) in TIMES {
        let all = figures.map(|f| f.times(channel).all()).unwrap_or_default();
        for ((q, _), value) in QUANTILES.iter().zip(all) {
            put(&format!("{name}_{q}_ns"), integer(value.map(|v| v.ns)));
        }
        if !matches!(channel, Channel::Service | Channel::Response) {
            continue;
        }
        for (name_q, q) in QUANTILES {
            let interval = figures.and_then(|f| f.times(channel).interval(q));
            put(&format!("{name}_{name_q}_low_ns"), integer(interval.and_then(|(low, _)| low)));
            put(&format!("{name}_{name_q}_high_ns"), integer(interval.and_then(|(_, high)| high)));
        }
    }
    let all = figures.map(|f| f.latency().all()).unwrap_or_default();
    for ((q, _), value) in QUANTILES.iter().zip(all) {
        put(&format!("latency_{q}_ms"), milliseconds(value.map(|v| v.ns)));
    }
    for facts in measures::shown(ShownIn::Csv) {
        put(facts.name, number(figures.and_then(|f| f.get(facts.measure))));
    }
    let slopes = figures.and_then(|f| f.slopes);
    put("memory_slope_bytes", number(slopes.map(|(memory, _)| memory)));
    put("kernel_slope_bytes", number(slopes.and_then(|(_, kernel)| kernel)));
}

fn comparison(out: &mut Vec<Field>, what: &str, c: Option<Comparison>, own: Option<&str>) {
    let mut put = |name: &str, value: String| out.push((format!("{what}_ratio{name}"), value));
    put("", number(c.map(|c| c.estimate.ratio)));
    put("_low", number(c.and_then(|c| c.estimate.low)));
    put("_high", number(c.and_then(|c| c.estimate.high)));
    put("_adjusted_p", number(c.and_then(|c| c.adjusted_p)));
    let verdict = c.map(|c| c.verdict.word());
    put("_verdict", own.or(verdict).unwrap_or_default().into());
}

fn milliseconds(ns: Option<u64>) -> String {
    number(ns.map(|ns| ns as f64 / 1e6))
}

pub(super) fn integer(value: Option<u64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// A field of a row in JSON as text; empty where it is not there.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(n) if !n.is_u64() => number(n.as_f64()),
        other => other.to_string(),
    }
}

/// The shortest decimal that reads back as the same number.
fn number(value: Option<f64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}
