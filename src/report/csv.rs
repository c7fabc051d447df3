//! `cells.csv`: tidy, one row a cell, units last in each name, empty where nothing was measured.
//!
//! Times are nanoseconds and sizes bytes. Percentiles of service and response time at or above
//! `gave_up_ns` are lower bounds, since a request was given up there.

use serde_json::Value;

use super::measures::{self, Measure, Place};
use super::summary::{Figures, Group, QUANTILES, Row};
use crate::format::Channel;
use crate::plan::Axis;
use crate::stats::Comparison;

/// One named field of a row.
type Field = (String, String);

/// Renders the groups of a sweep as CSV (RFC 4180, but for lines that end in a bare line feed).
pub fn render(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        for (i, row) in group.rows.iter().enumerate() {
            let fields = fields(group, i, row);
            if out.is_empty() {
                push_line(&mut out, fields.iter().map(|(name, _)| name.as_str()));
            }
            push_line(&mut out, fields.iter().map(|(_, value)| value.as_str()));
        }
    }
    out
}

fn push_line<'a>(out: &mut String, values: impl Iterator<Item = &'a str>) {
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
    let mut out: Vec<Field> = Vec::new();
    let mut put = |name: &str, value: String| out.push((name.into(), value));
    let (c, t) = (&row.cell, &row.tally);
    put("id", c.id.clone());
    put("label", c.kind.label().unwrap_or_default().into());
    let row_fields = serde_json::to_value(c).unwrap_or_default();
    for name in Axis::all().flat_map(Axis::fields) {
        put(name, plain(&row_fields[name]));
    }
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
    let mut put = |name: &str, value: String| out.push((name.into(), value));
    let count = |value: fn(&Figures) -> u64| integer(figures.map(value));
    put("planned", count(|f| f.ledger.planned));
    put("completed", count(|f| f.ledger.completed));
    put("failed", count(|f| f.ledger.failed));
    put("timed_out", count(|f| f.ledger.timed_out));
    put("unsent", count(|f| f.ledger.unsent));
    put("gave_up_ns", integer(figures.and_then(|f| f.gave_up_ns)));
    for (name, channel) in [
        ("service", Channel::Service),
        ("response", Channel::Response),
        ("start_delay", Channel::StartDelay),
        ("pacer_delay", Channel::PacerDelay),
        ("lane_wait", Channel::LaneWait),
    ] {
        let all = figures.map(|f| f.times(channel).all()).unwrap_or_default();
        for ((q, _), value) in QUANTILES.iter().zip(all) {
            put(&format!("{name}_{q}_ns"), integer(value.map(|v| v.ns)));
        }
    }
    for facts in measures::shown(Place::Csv) {
        put(facts.name, number(figures.and_then(|f| f.get(facts.measure))));
    }
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

fn integer(value: Option<u64>) -> String {
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
