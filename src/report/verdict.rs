//! The first lines of the report: what a planner must know, with intervals.
//!
//! Engines at the same offered rate come first, since there they do the same work; a closed loop
//! measures how fast lanes can be driven, which is another question.

use std::collections::{BTreeMap, BTreeSet};

mod alone;
mod targets;

use super::busy;
use super::measures::Measure;
use super::memory;
use super::summary::{self, Blocks, Figures, Group, Percentiles, Row, by_block, paired, valid};
use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::stats::hdr::Percentile;
use crate::stats::{Comparison, Verdict};
use crate::terminal::wrap;
use crate::units::{Ratio, format_rate, format_share, plural};

pub(super) type Trials<'a> = BTreeMap<&'a str, Vec<&'a TrialRecord>>;

/// Valid trials by cell, one for each block; cells without any are left out.
pub(super) fn by_cell(records: &[TrialRecord]) -> Trials<'_> {
    let cells = summary::by_cell(records).into_iter();
    cells.map(|(id, trials)| (id, valid(&trials))).filter(|(_, t)| !t.is_empty()).collect()
}

/// Most sentences about targets: what more there are stand in the tables.
const MOST_TARGETS: usize = 12;

/// One sentence at the same offered rate, if there is one, one as fast as lanes could, and what one
/// more lane costs where memory trials climb a ladder.
pub(super) fn sentences(
    records: &[TrialRecord],
    groups: &[Group],
    trials: &Trials<'_>,
) -> Vec<String> {
    let mut said: Vec<String> =
        spoken_of(groups).into_iter().filter_map(|g| sentence(g, groups, trials)).collect();
    said.extend(groups.iter().flat_map(targets::sentences).take(MOST_TARGETS));
    let cells = memory::cells(records);
    let ladders = memory::sentences(&memory::ladders(&cells));
    // A run of memory trials alone has no groups, and nothing to be ranked.
    let memory_alone = groups.is_empty() && !cells.is_empty();
    if memory_alone && ladders.is_empty() {
        said.push(memory_only(&cells));
    } else if said.is_empty() && !memory_alone {
        said.push(nothing(groups));
    }
    said.extend(ladders);
    said.splice(..0, subject(records.iter().map(|r| &r.cell)));
    said
}

/// Which side is under test, where that is a question.
pub(super) fn subject<'c>(mut cells: impl Iterator<Item = &'c Cell>) -> Option<String> {
    let cell = cells.find(|cell| cell.server_engine.is_some())?;
    Some(match cell.server_engine.filter(|_| !cell.tests_server()) {
        None => {
            "Under test is the server: CPU, memory, switches and threads are the server's, and \
             latency is what the client saw."
                .into()
        }
        Some(engine) => format!(
            "Under test is the client: CPU, memory, switches and threads are the client's, and its \
             server is `{}`.",
            engine.name()
        ),
    })
}

/// Why memory trials alone come to no sentence.
fn memory_only(cells: &[memory::CellSplit<'_>]) -> String {
    if cells.iter().all(|c| c.splits.is_empty()) {
        "No memory trial ran to its end, so nothing can be concluded: see the errors below.".into()
    } else {
        "Memory trials ran at fewer than three lane counts, so what one more lane costs cannot be \
         told. The split of each cell stands below."
            .into()
    }
}

/// What the sentences leave open: how far they hold, and what was not measured.
pub(super) fn remarks(records: &[TrialRecord], groups: &[Group]) -> Vec<String> {
    let mut out = busy::remarks(records);
    for open in [true, false] {
        out.extend(over_all(groups, open));
    }
    let open = || groups.iter().filter(|g| g.cell.arrivals.is_open());
    let targets = groups.iter().any(|g| g.cell.target.is_some());
    if groups.is_empty() || targets || open().any(|g| rival(g).is_some()) {
        return out;
    }
    out.push(if open().next().is_none() {
        "No rate was offered, so the engines may have carried different loads. To compare them at \
         equal load, set arrivals = \"constant\" and rates = […]."
            .into()
    } else {
        "At equal offered rates no two engines have valid trials in the same block, so they cannot \
         be compared there: see the gates and errors below."
            .into()
    });
    out
}

/// The groups that the sentences speak of: the most demanding open one, then the closed one.
pub(super) fn spoken_of(groups: &[Group]) -> Vec<&Group> {
    let judged = |open: bool| {
        groups
            .iter()
            .filter(|g| g.cell.arrivals.is_open() == open && g.cell.target.is_none())
            .filter(|g| rival(g).is_some())
            .max_by(|a, b| size(a).total_cmp(&size(b)))
    };
    [judged(true), judged(false)].into_iter().flatten().collect()
}

/// The most demanding group says most.
fn size(group: &Group) -> f64 {
    group.cell.offered_per_s.unwrap_or(1.0) * f64::from(group.cell.total_lanes)
}

/// Groups, the most demanding first.
pub(super) fn demanding<'g>(groups: &[&'g Group]) -> Vec<&'g Group> {
    let mut groups = groups.to_vec();
    groups.sort_by(|a, b| size(b).total_cmp(&size(a)));
    groups
}

fn nothing(groups: &[Group]) -> String {
    let rows = || groups.iter().flat_map(|g| &g.rows);
    if rows().next().is_none() {
        "No trial has ended, so nothing can be concluded yet.".into()
    } else if rows().all(|r| !r.ranked) {
        "No trial is valid, so nothing can be concluded: see the gates and errors below.".into()
    } else if rows().map(|r| &r.name).collect::<BTreeSet<_>>().len() == 1 {
        alone::sentence(groups)
    } else if groups.iter().all(|g| g.reference.is_none()) {
        "The baseline has no valid trial, so nothing can be compared: see below.".into()
    } else {
        "No two engines have valid trials at equal lanes, CPUs and rate, so nothing can be \
         compared."
            .into()
    }
}

fn ratio_of_cpu(row: &Row) -> Option<f64> {
    row.cpu_ratio().map(|c| c.estimate.ratio)
}

/// The rows that stand against the reference.
fn rivals(group: &Group) -> impl Iterator<Item = &Row> {
    let compared = |r: &&Row| !r.cell.is_copy() && ratio_of_cpu(r).is_some();
    group.rows.iter().filter(compared)
}

/// The row with the lowest CPU cost against the reference.
fn rival(group: &Group) -> Option<&Row> {
    group.reference?;
    let by_cpu = |r: &Row| ratio_of_cpu(r).unwrap_or(f64::INFINITY);
    rivals(group).min_by(|a, b| by_cpu(a).total_cmp(&by_cpu(b)))
}

/// A sentence about the p99 of two rows; the one that lost more than a hundredth of its requests has
/// none.
fn p99(of_what: &str, rows: [(&str, &Figures); 2], ratio: &str) -> String {
    let [(name, a), (other, b)] = rows.map(|(name, figures)| (name, figures.latency()));
    let lost = |times: &Percentiles| times.lost_beyond(0.99).map(format_share);
    let one = |name: &str, share: String, other: &str, p99: Percentile| {
        format!(
            ". {name} lost {share} of its requests and so has no p99 of {of_what} time; that of {other} \
             was {p99}"
        )
    };
    match ((lost(a), a.p99), (lost(b), b.p99)) {
        ((Some(x), _), (Some(y), _)) => format!(
            ". Neither has a p99 of {of_what} time: {name} lost {x} of its requests and {other} {y}"
        ),
        ((Some(share), _), (None, Some(p99))) => one(name, share, other, p99),
        ((None, Some(p99)), (Some(share), _)) => one(other, share, name, p99),
        ((None, Some(p)), (None, Some(q))) => {
            format!(". The p99 of {of_what} time was {p} against {q}{ratio}")
        }
        _ => ". There were too few requests for a p99".into(),
    }
}

fn sentence(group: &Group, groups: &[Group], trials: &Trials<'_>) -> Option<String> {
    let reference = &group.rows[group.reference?];
    let row = rival(group)?;
    let lanes = plural(group.cell.total_lanes.into(), "lane");
    let place = match group.cell.offered_per_s {
        Some(rate) => format!("At the same {} req/s over {lanes}", format_rate(rate)),
        None => format!("In a closed loop of {lanes}"),
    };
    // Codecs cost about as much as engines differ by.
    let codec = match groups.iter().any(|g| g.cell.codec != group.cell.codec) {
        true => format!(" with {}", group.cell.codec.name()),
        false => String::new(),
    };
    let among = match rivals(group).count() {
        1 => String::new(),
        // Where none takes less than the reference, that one is the cheapest.
        n if ratio_of_cpu(row)? < 1.0 => format!(", the cheapest of {} engines,", n + 1),
        n => format!(", the cheapest of the {n} others,"),
    };
    let pairs = Pairs::of(row, reference, trials, group.margin);
    let (a, b) = (row.figures.as_ref()?, reference.figures.as_ref()?);
    let cpu = change(row.cpu_ratio(), "CPU per request", &reference.name, &cpu_of(a, b));
    let memory = pairs.memory(row, &reference.name, (a, b));
    let mut text = format!("{place}{codec}, {}{among} used {cpu} and {memory}", row.name);
    let open = group.cell.arrivals.is_open();
    let of_what = if open { "response" } else { "service" };
    let ratio = pairs.ratio(Measure::P99, [a, b].map(|f| Some(f.latency().p99?.ns as f64)));
    text += &p99(of_what, [(row.name.as_str(), a), (reference.name.as_str(), b)], &ratio);
    if !open {
        text.push_str(&format!(
            ". It completed {} req/s against {}{}",
            format_rate(a.get(Measure::Achieved).unwrap_or(0.0)),
            format_rate(b.get(Measure::Achieved).unwrap_or(0.0)),
            pairs.ratio(Measure::Achieved, [a, b].map(|f| f.get(Measure::Achieved)))
        ));
    }
    text.push('.');
    let p99 = pairs.compared_in(Measure::P99).map(|c| c.verdict);
    // Nor where the requests of one take longer, or are lost.
    let known = [a, b].iter().all(|f| f.latency().p99.is_some());
    if known && !p99.is_some_and(|v| matches!(v, Verdict::Higher | Verdict::Lower)) {
        text.extend(either_will_do(group, a, b));
    }
    Some(text)
}

/// A difference in CPUs that nobody plans for: a twentieth of one.
const SMALL_CPUS: f64 = 0.05;
/// The same of memory.
const SMALL_BYTES: f64 = (32 << 20) as f64;

/// Where the whole difference at the planned load is next to nothing, percentages decide nothing. A
/// closed loop plans no load: what it carries is what the machine had to give.
fn either_will_do(group: &Group, a: &Figures, b: &Figures) -> Option<String> {
    let open = group.cell.arrivals.is_open();
    let load = group.cell.offered_per_s.or(a.get(Measure::Achieved)).filter(|_| open)?;
    let cpu = |f: &Figures| Some(f.get(Measure::CpuPerRequest)? * load / 1e9);
    let memory =
        |f: &Figures| Some(f.get(Measure::Memory)? + f.get(Measure::Kernel).unwrap_or(0.0));
    let (cpus, bytes) = ((cpu(a)? - cpu(b)?).abs(), (memory(a)? - memory(b)?).abs());
    (cpus < SMALL_CPUS && bytes < SMALL_BYTES).then(|| {
        format!(
            " At {} and {} req/s either will do: they differ by {} of a CPU and {} in all.",
            plural(group.cell.total_lanes.into(), "lane"),
            format_rate(load),
            if cpus < 0.005 { "less than 0.01".into() } else { format!("{cpus:.2}") },
            Measure::Memory.print(bytes)
        )
    })
}

/// CPU per request of both, and how much of a CPU they used.
fn cpu_of(a: &Figures, b: &Figures) -> String {
    let cost = |f: &Figures| f.get(Measure::CpuPerRequest).unwrap_or(0.0);
    let cores = |f: &Figures| f.get(Measure::CpuPerSecond).unwrap_or(0.0) / 1e9;
    let print = |f: &Figures| Measure::CpuPerRequest.print(cost(f));
    let (x, y) = (cores(a), cores(b));
    // Two digits that say something, the same number of decimals for both.
    let decimals = if x.min(y) < 0.05 { 3 } else { 2 };
    format!("{} against {}: {x:.decimals$} against {y:.decimals$} of a CPU", print(a), print(b))
}

/// `31 % [16, 41] less CPU per request than threads (14 µs against 19 µs)`. What may be either is
/// called neither less nor more: such a sentence is read no further.
fn change(c: Option<Comparison>, what: &str, than: &str, figures: &str) -> String {
    let Some(c) = c else { return format!("{what} that cannot be compared with that of {than}") };
    if let Verdict::Equal { .. } = c.verdict {
        return format!("about the same {what} as {than} ({figures}; {})", c.verdict);
    }
    let interval = c.estimate.interval();
    let undecided = matches!(c.verdict, Verdict::Undecided { .. });
    if let Some((low, high)) = interval.filter(|(l, h)| undecided && *l <= 1.0 && 1.0 <= *h) {
        let (low, high) = (by(low), by(high));
        return format!(
            "{what} that cannot be told from that of {than} (undecided, anything from {low} to \
             {high}; {figures})"
        );
    }
    let ratio = c.estimate.ratio;
    // A few per cent of a few trials have no direction yet: medians may well say the other one.
    if interval.is_none() && (ratio - 1.0).abs() < 0.05 {
        return format!("about as much {what} as {than} ({figures}; {})", c.verdict);
    }
    let percent = |r: f64| 100.0 * if ratio < 1.0 { 1.0 - r } else { r - 1.0 };
    let interval = interval.map_or(String::new(), |(low, high)| {
        let (x, y) = (percent(low), percent(high));
        format!(" [{:.0}, {:.0}]", x.min(y), x.max(y))
    });
    let way = if ratio < 1.0 { "less" } else { "more" };
    let open = left_open(&c).map_or(String::new(), |said| format!("; {said}"));
    format!("{:.0} %{interval} {way} {what} than {than} ({figures}{open})", percent(ratio))
}

/// What a ratio is to 1: `66 % less`, `11 % more`, `3.04× as much`.
fn by(ratio: f64) -> String {
    match ratio {
        r if r < 1.0 => format!("{:.0} % less", 100.0 * (1.0 - r)),
        r if r < 2.0 => format!("{:.0} % more", 100.0 * (r - 1.0)),
        r => format!("{} as much", Ratio(r)),
    }
}

/// How far a rival's ratio of CPU and memory goes over all groups of a kind.
fn over_all(groups: &[Group], open: bool) -> Option<String> {
    let is_of_kind = |g: &&Group| g.cell.arrivals.is_open() == open && g.reference.is_some();
    let spoken = spoken_of(groups).into_iter().find(is_of_kind)?;
    let (name, reference) = (&rival(spoken)?.name, &spoken.rows[spoken.reference?].name);
    let same = groups.iter().filter(is_of_kind).flat_map(|g| &g.rows);
    let same: Vec<&Row> = same.filter(|r| r.name == *name && r.cpu_ratio().is_some()).collect();
    let range = |measure: Measure| {
        let all = || same.iter().filter_map(|r| Some(r.ratio(measure)?.estimate.ratio));
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        format!("{} to {}", Ratio(low), Ratio(high))
    };
    let kind = if open { "groups at equal offered rates" } else { "closed-loop groups" };
    (same.len() > 1).then(|| {
        format!(
            "Over all {} {kind}, {name} used {} the CPU per request and {} the user memory of \
             {reference}.",
            same.len(),
            range(Measure::CpuPerRequest),
            range(Measure::Memory)
        )
    })
}

fn with_interval(c: &Comparison) -> String {
    let interval = c.estimate.interval();
    let interval = interval.map_or(String::new(), |(l, h)| format!(" [{l:.2}, {h:.2}]"));
    format!("{}{interval}", Ratio(c.estimate.ratio))
}

/// What may be said where no difference is shown.
fn left_open(c: &Comparison) -> Option<Verdict> {
    Some(c.verdict).filter(|v| !matches!(v, Verdict::Higher | Verdict::Lower))
}

/// The trials of two rows by their blocks.
struct Pairs<'a> {
    own: Blocks<'a>,
    reference: Blocks<'a>,
    margin: f64,
}

impl<'a> Pairs<'a> {
    fn of(row: &Row, reference: &Row, trials: &Trials<'a>, margin: f64) -> Pairs<'a> {
        let of = |r: &Row| by_block(trials.get(r.cell.id.as_str()).map_or(&[], Vec::as_slice));
        Pairs { own: of(row), reference: of(reference), margin }
    }

    /// A comparison that stands for itself.
    fn compared_in(&self, measure: Measure) -> Option<Comparison> {
        let estimate = summary::ratio(measure, &self.own, &self.reference)?;
        Some(Comparison::alone(estimate, None, self.margin))
    }

    /// A ratio with its interval in parentheses; empty with too few trials for one. One slow block
    /// moves a p99 of all requests far and the ratio of the median block not at all: where the figures
    /// `beside` it would not give this ratio, it says where it comes from.
    fn ratio(&self, measure: Measure, beside: [Option<f64>; 2]) -> String {
        let ratio = self.compared_in(measure).and_then(|c| {
            c.estimate.interval()?;
            let apart = beside[0]? / beside[1]? / c.estimate.ratio;
            let alike = 1.0 / (1.0 + self.margin)..=1.0 + self.margin;
            let from = if alike.contains(&apart) { "" } else { "block by block " };
            let left_open = left_open(&c).map_or(String::new(), |said| format!(", {said}"));
            Some(format!(" ({from}{}{left_open})", with_interval(&c)))
        });
        ratio.unwrap_or_default()
    }

    /// Memory per lane with the kernel's; user memory alone where that is unknown.
    fn memory(&self, row: &Row, than: &str, (a, b): (&Figures, &Figures)) -> String {
        let blocks = paired(&self.own, &self.reference).count();
        let kernel = self.compared_in(Measure::UserAndKernel).filter(|c| c.estimate.n == blocks);
        let included = kernel.is_some();
        // What the ratio is of, and what one more lane adds where both sides tell.
        let total = |f: &Figures| {
            let more = f.get(Measure::Kernel).filter(|_| included).unwrap_or(0.0);
            Measure::Memory.print(f.get(Measure::Memory).unwrap_or(0.0) + more)
        };
        let slope = |f: &Figures| {
            let (user, more) = f.slopes?;
            Some(Measure::MemoryPerLane.print(if included { user + more? } else { user }))
        };
        let mut figures = format!("{} against {}", total(a), total(b));
        if included {
            figures.push_str(", kernel included");
        }
        if let Some((a, b)) = slope(a).zip(slope(b)) {
            figures.push_str(&format!("; one more lane adds {a} against {b}"));
        }
        match kernel {
            Some(c) => change(Some(c), "memory", than, &figures),
            None => change(row.ratio(Measure::Memory), "user memory", than, &figures),
        }
    }
}

/// The verdict for a terminal, before its tables: the same sentences as in the reports.
pub fn text(records: &[TrialRecord], groups: &[Group], width: Option<u16>) -> String {
    let said = sentences(records, groups, &by_cell(records));
    let busy = busy::remarks(records);
    let lines = said.iter().chain(&busy).flat_map(|sentence| wrap(sentence, width));
    lines.map(|line| line + "\n").chain(["\n".to_string()]).collect()
}
