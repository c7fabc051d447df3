//! Where the bytes and the processor time go: stacked bars, and a table of what lies behind them.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::figure::{self, MOST_PANELS, Measured};
use super::{paragraph, tables};
use crate::format::TrialRecord;
use crate::plan::cell::Key;
use crate::report::layout::Columns;
use crate::report::measures::{self, Facts, Measure, ShownIn, Unit};
use crate::report::memory::{self, CellSplit, KNOWN, PARTS, TOTAL};
use crate::report::plot::{Colour, GREY, Mark, PALETTE, Panels, PlotAxis, Scale, whole};
use crate::report::summary::{Group, Row, read_for};
use crate::report::verdict::Trials;
use crate::stats::median;
use crate::units::{format_bytes, format_ns, plural};

/// Most rows of the table of causes that are shown unasked.
const MOST_OPEN: usize = 30;

/// Bars of every row of each group: medians over the trials, of the sum and of each part's share.
fn stacked<const N: usize>(
    groups: &[&Group],
    trials: &Trials<'_>,
    (title, axis, measure): (&str, &PlotAxis<'_>, Measure),
    parts: &[(&str, Colour); N],
    lengths: fn(&TrialRecord) -> [Option<f64>; N],
) -> Markup {
    let (groups, left_out) = figure::chosen(groups, MOST_PANELS);
    let bar = |row: &Row| -> Option<Measured> {
        let own = read_for(measure.facts(), trials.get(row.cell.id.as_str())?);
        let all: Vec<[Option<f64>; N]> = own.into_iter().map(lengths).collect();
        let middle = |of: &dyn Fn(&[Option<f64>; N]) -> Option<f64>| {
            median(&all.iter().filter_map(of).collect::<Vec<f64>>())
        };
        // What fewer than half of the trials know says little of the cell.
        let is_known = |i: &usize| 2 * all.iter().filter(|l| l[*i].is_some()).count() > all.len();
        let part = |i: usize| middle(&|l| l[i].map(|v| v.max(0.0))).filter(|_| is_known(&i));
        let medians: Vec<Option<f64>> = (0..N).map(part).collect();
        // The sum of medians is not the median of sums, which is what the tables print.
        let sum: f64 = medians.iter().flatten().sum();
        // Nor has every trial a split: a short one may have no tick of the kernel's clock.
        let whole = match measure {
            Measure::CpuPerRequest => row.figures.as_ref()?.get(measure)?,
            _ => middle(&|l| Some(l.iter().flatten().sum()))?,
        };
        let scale = if sum > 0.0 { whole / sum } else { 0.0 };
        Some((row.name.clone(), medians.iter().map(|m| Some((*m)? * scale)).collect()))
    };
    let titles = figure::titles_of(&groups).into_iter();
    let panels = titles.zip(groups).map(|(t, g)| (t, g.rows.iter().filter_map(bar).collect()));
    let panels: Vec<(String, Vec<Measured>)> =
        panels.filter(|(_, bars): &(_, Vec<_>)| !bars.is_empty()).collect();
    if panels.is_empty() {
        return paragraph("No valid trial measured this.");
    }
    figure::bars(title, axis, parts, panels, &left_out)
}

/// Memory over the baseline: the process's own, the kernel's, and what sockets hold. Where no cgroup
/// counts the kernel's, page tables and kernel stacks are the part of it that is known.
fn at_plateau(groups: &[&Group], trials: &Trials<'_>) -> Markup {
    let parts = [
        ("user", PALETTE[1]),
        ("kernel", PALETTE[3]),
        ("page tables and kernel stacks", PALETTE[4]),
        ("TCP buffers", PALETTE[0]),
    ];
    let lengths = |t: &TrialRecord| {
        let lanes = f64::from(t.cell.total_lanes.max(1));
        let Some(m) = t.subject().map(|subject| subject.memory) else { return [None; 4] };
        let user = Measure::Memory.of(t).map(|bytes| bytes as u64);
        let known = m.added_kernel_bytes.filter(|_| m.kernel_bytes.is_none());
        [user, m.kernel_bytes, known, m.socket_bytes].map(|bytes| Some(bytes? as f64 / lanes))
    };
    let axis = PlotAxis::new("bytes per lane", Scale::Binary, &format_bytes);
    let drawn = ("Memory per lane", &axis, Measure::Memory);
    html! {
        (paragraph(
            "What was added to the baseline, half-way through the window, ÷ lanes; medians. What a \
             process adds once is included, so figures per lane look large where there are few lanes. \
             Set `memory = true` under [sweep] for stacks, page tables and sockets apart.",
        ))
        (unavailable(trials, &["memory."]))
        (stacked(groups, trials, drawn, &parts, lengths))
    }
}

/// What could not be measured of the side under test, and why: each reason once.
fn unavailable(trials: &Trials<'_>, prefixes: &[&str]) -> Markup {
    let mut why: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for trial in trials.values().flatten() {
        let side = if trial.cell.tests_server() { "server." } else { "" };
        for (field, reason) in &trial.unavailable {
            let own =
                field.strip_prefix(side).filter(|f| prefixes.iter().any(|p| f.starts_with(p)));
            own.into_iter().for_each(|field| _ = why.entry(reason).or_default().insert(field));
        }
    }
    let words = |field: &&str| {
        let name = field.rsplit('.').next().unwrap_or_default();
        Unit::of_field(name).0.replace('_', " ")
    };
    let list = |fields: &BTreeSet<&str>| fields.iter().map(words).collect::<Vec<_>>().join(", ");
    html! { @for (reason, fields) in &why {
        p.note { "Not measured: " (list(fields)) " (" (super::rich(reason)) ")." }
    } }
}

/// User and system CPU time of each request, net of the instrument's.
pub(super) fn cpu(groups: &[Group], trials: &Trials<'_>) -> Markup {
    let parts = [("user", PALETTE[1]), ("system", PALETTE[3]), ("too short to split", GREY)];
    let lengths = |t: &TrialRecord| {
        let Some(cpu) = t.subject().map(|subject| subject.cpu) else { return [None; 3] };
        // The split is sampled; scaled to the exact figure it says where that went.
        match Measure::UserShare.of(t) {
            Some(user) => {
                [Some(cpu.per_request_ns * user), Some(cpu.per_request_ns * (1.0 - user)), None]
            }
            None => [None, None, Some(cpu.per_request_ns)],
        }
    };
    let axis = PlotAxis::new("CPU per request", Scale::Linear, &format_ns);
    let drawn = ("CPU per request", &axis, Measure::CpuPerRequest);
    let busy: Vec<&Group> = groups.iter().filter(|g| !g.cell.is_idle()).collect();
    // Counting events takes time in those trials: they have rows, and no bars.
    let timed: Vec<&Group> = busy.iter().copied().filter(|g| !g.cell.counts_events()).collect();
    html! {
        (paragraph("Medians, net of duel's own pacer and monitor. The total is exact. The kernel samples the \
             split into user and system by its clock, so a trial of less than 20 ms of CPU has none."))
        (stacked(&timed, trials, drawn, &parts, lengths))
        (causes(&busy, trials))
    }
}

/// What lies behind the processor time: switches, waits, and what the machine did beside.
fn causes(groups: &[&Group], trials: &Trials<'_>) -> Markup {
    let mut rows: Vec<(String, &Vec<&TrialRecord>)> = Vec::new();
    for (load, group) in figure::titles_of(groups).into_iter().zip(groups) {
        let own =
            |row: &Row| Some((format!("{} · {load}", row.name), trials.get(row.cell.id.as_str())?));
        rows.extend(group.rows.iter().filter_map(own));
    }
    if rows.is_empty() {
        return html! {};
    }
    let mut table = Columns::of(&rows);
    table.text("cell", |(name, _)| name.clone());
    for facts @ Facts { measure, title, of, .. } in measures::shown(ShownIn::Cause) {
        table.number_if_known(*title, |(_, trials)| {
            let values: Vec<f64> = read_for(facts, trials).into_iter().filter_map(of).collect();
            Some(measure.print(median(&values)?))
        });
    }
    let heading = "Behind the CPU time: switches, waits and the rest of the machine";
    let section = table.section(heading, vec![]);
    html! {
        (tables::folded(heading, rows.len() <= MOST_OPEN, &tables::table(&section)))
        (unavailable(trials, &["cpu.", "switches."]))
    }
}

/// Yellow of the same palette.
const YELLOW: Colour = (240, 228, 66);

/// The parts of a bar, and the parts of the split that each is the sum of.
const SHOWN: [(&str, Colour); 8] = [
    ("thread stacks", PALETTE[4]),
    ("heap and program data", PALETTE[0]),
    ("page tables", PALETTE[1]),
    ("kernel stacks", PALETTE[3]),
    ("task structures", PALETTE[5]),
    ("sockets", PALETTE[2]),
    ("other kernel", YELLOW),
    ("unattributed", GREY),
];
const SUMS: [&[&str]; 8] = [
    &["stack", "signal_stack"],
    &["heap", "heap_slack", "program"],
    &["page_table"],
    &["kernel_stack"],
    &["task"],
    &["socket_object", "tcp_buffer"],
    &["other_kernel", "ring"],
    &["unattributed"],
];

/// The split of the memory trials, what one more lane adds, and for cells without such a trial what
/// can be told at the plateau.
pub(super) fn bytes(records: &[TrialRecord], groups: &[Group], trials: &Trials<'_>) -> Markup {
    let cells = memory::cells(records);
    let split: BTreeSet<Key> = cells.iter().map(|c| c.cell.place(&[])).collect();
    let is_rest = |g: &&Group| !g.cell.counts_events() && !split.contains(&g.cell.place(&[]));
    let rest: Vec<&Group> = groups.iter().filter(is_rest).collect();
    html! {
        @if !cells.is_empty() {
            (splits(&cells))
            (ladder(&cells))
            @for section in memory::sections(records) { (tables::titled(&section)) }
            @if !rest.is_empty() { h3 { "Cells without a memory trial" } }
        }
        @if cells.is_empty() || !rest.is_empty() { (at_plateau(&rest, trials)) }
    }
}

/// The split of the memory trials: a panel for each number of lanes, a bar per cell.
fn splits(cells: &[CellSplit<'_>]) -> Markup {
    let mut steps: BTreeMap<u32, Vec<Measured>> = BTreeMap::new();
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        if !cell.splits.is_empty() {
            steps.entry(cell.cell.total_lanes).or_default().push((name, parts_of(cell)));
        }
    }
    if steps.is_empty() {
        return paragraph("No memory trial ran to its end.");
    }
    // The highest steps say most of a lane: what is fixed is spread over many.
    let left_out = steps.len().saturating_sub(MOST_PANELS);
    let panels = steps.into_iter().skip(left_out);
    let panels = panels.map(|(n, bars)| (plural(n.into(), "lane"), bars)).collect();
    let below = (left_out > 0).then(|| {
        format!("{left_out} smaller lane counts are left out of the bars; the table has them.")
    });
    let axis = PlotAxis::new("bytes per lane", Scale::Binary, &format_bytes);
    html! {
        (paragraph(
            "Memory trials: what was added between the moment before set-up and half-way through the \
             window, in user space and in the kernel, per lane; medians. Each part is measured by \
             itself, and the rest of the total is shown as unattributed (a part below zero has no \
             length: see the table). Latency of these trials is not ranked.",
        ))
        (figure::bars("Memory per lane, split", &axis, &SHOWN, panels, below.as_slice()))
    }
}

/// Bytes per lane of each shown part; `None` where nothing of it was measured.
fn parts_of(cell: &CellSplit<'_>) -> Vec<Option<f64>> {
    let of = |name: &&str| PARTS.iter().find(|p| p.name == *name).and_then(|p| cell.bytes(p));
    let sum = |parts: &[&str]| parts.iter().filter_map(of).reduce(|a, b| a + b);
    SUMS.iter().map(|parts| Some(sum(parts)? / cell.lanes())).collect()
}

fn ladder(cells: &[CellSplit<'_>]) -> Markup {
    let x = PlotAxis::new("lanes", Scale::Log10, &whole);
    let y = PlotAxis::new("user and kernel memory", Scale::Log2, &format_bytes);
    let mut panels = Panels::default();
    panels.begin("", &y);
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        let bytes = cell.bytes(&TOTAL).or_else(|| cell.bytes(&KNOWN)).filter(|y| *y > 0.0);
        let point = bytes.map(|y| Mark::at(cell.lanes(), y));
        panels.draw(cell.cell.engine, &name, point.into_iter().collect());
    }
    if panels.0[0].lines.iter().all(|l| l.points.len() < 2) {
        return html! {};
    }
    figure::lines("Total memory against lanes, memory trials", &x, 1, &panels.0, &[])
}
