//! `cells.csv` and `trials.csv`: tidy, one row per cell or trial, units last in each name, empty where
//! nothing was measured.
//!
//! Times are nanoseconds and sizes bytes; `latency_*_ms` is response time, in a closed loop service
//! time, in the unit that people plot. Percentiles of service and response time at or above
//! `gave_up_ns` are lower bounds, since a request was given up there.

use std::ptr;

use serde_json::Value;

use super::measures::{self, Facts, Measure, ShownIn};
use super::summary::{Figures, Group, Percentiles, QUANTILES, Row, by_block, by_cell, is_quiet};
use crate::format::{Channel, Distribution, ErrorKind, Flag, Ledger, TrialRecord};
use crate::plan::{Axis, Cell};

const TIMES: [(&str, Channel); 5] = [
    ("service", Channel::Service),
    ("response", Channel::Response),
    ("start_delay", Channel::StartDelay),
    ("pacer_delay", Channel::PacerDelay),
    ("lane_wait", Channel::LaneWait),
];

/// A row under way: each value under its name.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The axes of a cell.
    pub(super) fn of(cell: &Cell) -> Fields {
        let mut out = Fields::default();
        out.put("id", cell.id.clone());
        out.put("label", cell.kind.label().unwrap_or_default());
        let fields = serde_json::to_value(cell).unwrap_or_default();
        for name in Axis::all().flat_map(Axis::fields) {
            out.put(*name, plain(&fields[name]));
        }
        out
    }

    pub(super) fn put(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.push((name.into(), value.to_string()));
    }

    pub(super) fn maybe(&mut self, name: impl Into<String>, value: Option<impl ToString>) {
        self.put(name, value.map(|v| v.to_string()).unwrap_or_default());
    }

    pub(super) fn ledger(&mut self, ledger: Option<&Ledger>) {
        let fields = ledger.and_then(|l| serde_json::to_value(l).ok()).unwrap_or_default();
        for name in ["planned", "completed", "failed", "timed_out", "unsent"] {
            self.put(name, plain(&fields[name]));
        }
    }

    /// The four percentiles of a channel, in nanoseconds.
    fn times(&mut self, name: &str, all: [Option<u64>; 4]) {
        for ((q, _), ns) in QUANTILES.iter().zip(all) {
            self.maybe(format!("{name}_{q}_ns"), ns);
        }
    }

    /// Those of latency in milliseconds, and every measure.
    fn latency_and_measures(&mut self, all: [Option<u64>; 4], of: impl Fn(&Facts) -> Option<f64>) {
        for ((q, _), ns) in QUANTILES.iter().zip(all) {
            self.maybe(format!("latency_{q}_ms"), ns.map(|ns| ns as f64 / 1e6));
        }
        for facts in measures::shown(ShownIn::Csv) {
            self.maybe(facts.name, of(facts));
        }
    }

    /// The names of the row, above all rows of a sheet (RFC 4180, but for lines that end in a bare
    /// line feed).
    pub(super) fn head(&self) -> String {
        line(self.0.iter().map(|(name, _)| name))
    }

    /// Adds the row to a sheet, and before the first one the names.
    pub(super) fn push_to(&self, out: &mut String) {
        if out.is_empty() {
            *out += &self.head();
        }
        *out += &line(self.0.iter().map(|(_, value)| value));
    }
}

fn line<'f>(values: impl Iterator<Item = &'f String>) -> String {
    let quoted = |value: &String| match value.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.clone(),
    };
    values.map(quoted).collect::<Vec<String>>().join(",") + "\n"
}

/// Renders the groups of a sweep, one row per cell.
pub fn render(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        for (i, row) in group.rows.iter().enumerate() {
            cell(row, group.reference == Some(i)).push_to(&mut out);
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
        trial(record, !stands.contains(&ptr::from_ref(record))).push_to(&mut out);
    }
    out
}

fn trial(r: &TrialRecord, superseded: bool) -> Fields {
    let mut out = Fields::of(&r.cell);
    out.put("block", r.block);
    out.put("trial", r.trial);
    out.put("status", plain(&serde_json::to_value(r.status).unwrap_or_default()));
    out.put("superseded", superseded);
    out.put("noisy", !is_quiet(r));
    out.put("flags", flags(&r.flags));
    out.maybe("error", r.error.as_ref());
    out.maybe("started_unix_ns", r.started_unix_ns);
    out.ledger(Some(&r.ledger));
    let statuses: Vec<String> = r.statuses.iter().map(|(code, n)| format!("{code}:{n}")).collect();
    out.put("statuses", statuses.join(" "));
    for kind in ErrorKind::ALL {
        out.put(format!("errors_{}", kind.name()), r.errors.count(*kind));
    }
    out.put("bytes_received", r.bytes.received);
    out.put("bytes_sent", r.bytes.sent);
    let percentiles = |times: Option<&Distribution>| {
        times.map_or([None; 4], |d| [d.p50, d.p90, d.p99, d.p99_9].map(Some))
    };
    for (name, channel) in TIMES {
        out.times(name, percentiles(r.histogram(channel)));
    }
    out.latency_and_measures(percentiles(r.latency()), |facts| (facts.of)(r));
    out
}

fn flags<'f>(all: impl IntoIterator<Item = &'f Flag>) -> String {
    all.into_iter().map(Flag::name).collect::<Vec<_>>().join(" ")
}

fn cell(row: &Row, is_reference: bool) -> Fields {
    let (c, t) = (&row.cell, &row.tally);
    let mut out = Fields::of(c);
    out.put("trials", t.blocks);
    out.put("trials_valid", t.valid);
    out.put("trials_noisy", t.noisy);
    out.put("trials_invalid", t.invalid);
    out.put("trials_failed", t.failed);
    out.put("trials_interrupted", t.interrupted);
    out.put("ranked", row.ranked && !c.counts_events());
    out.put("flags", flags(&row.flags));
    out.put("error", row.errors.keys().cloned().collect::<Vec<_>>().join("; "));
    figures(&mut out, row.figures.as_ref());
    for (what, measure) in [
        ("cpu", Measure::CpuPerRequest),
        ("memory", Measure::Memory),
        ("achieved", Measure::Achieved),
        ("p50", Measure::P50),
        ("p99", Measure::P99),
    ] {
        let c = row.ratio(measure);
        let own = measures::compared(&row.cell).any(|facts| facts.measure == measure);
        let own = (is_reference && own).then_some("baseline");
        out.maybe(format!("{what}_ratio"), c.map(|c| c.estimate.ratio));
        out.maybe(format!("{what}_ratio_low"), c.and_then(|c| c.estimate.low));
        out.maybe(format!("{what}_ratio_high"), c.and_then(|c| c.estimate.high));
        out.maybe(format!("{what}_ratio_adjusted_p"), c.and_then(|c| c.adjusted_p));
        out.maybe(format!("{what}_ratio_verdict"), own.or(c.map(|c| c.verdict.word())));
    }
    out
}

fn figures(out: &mut Fields, figures: Option<&Figures>) {
    out.ledger(figures.map(|f| &f.ledger));
    out.maybe("gave_up_ns", figures.and_then(|f| f.gave_up_ns));
    let ns =
        |times: Option<&Percentiles>| times.map_or([None; 4], |p| p.all().map(|p| Some(p?.ns)));
    for (name, channel) in TIMES {
        out.times(name, ns(figures.map(|f| f.times(channel))));
        if matches!(channel, Channel::Service | Channel::Response) {
            for (q_name, q) in QUANTILES {
                let (low, high) =
                    figures.and_then(|f| f.times(channel).interval(q)).unwrap_or_default();
                out.maybe(format!("{name}_{q_name}_low_ns"), low);
                out.maybe(format!("{name}_{q_name}_high_ns"), high);
            }
        }
    }
    let latency = ns(figures.map(Figures::latency));
    out.latency_and_measures(latency, |facts| figures.and_then(|f| f.get(facts.measure)));
    let slopes = figures.and_then(|f| f.slopes);
    out.maybe("memory_slope_bytes", slopes.map(|(memory, _)| memory));
    out.maybe("kernel_slope_bytes", slopes.and_then(|(_, kernel)| kernel));
}

/// A field of a row in JSON as text; empty where it is not there.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // The shortest decimal that reads back as the same number.
        Value::Number(n) if !n.is_u64() => n.as_f64().map(|v| v.to_string()).unwrap_or_default(),
        other => other.to_string(),
    }
}
