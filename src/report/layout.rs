//! Groups → words: the columns, the cells and the notes that every rendering of a group shares.

use super::busy;
pub(super) use super::columns::or_dash;
pub(crate) use super::columns::{Column, ColumnKind, Columns, Section};
use super::gates;
use super::measures::{self, Facts, Measure, ShownIn};
use super::summary::{FailedGate, Figures, Group, Percentiles, QUANTILES, Row};
use crate::format::gates::GateKind;
use crate::format::{Channel, Flag, Ledger};
use crate::stats::hdr::Percentile;
use crate::stats::{Comparison, MIN_FOR_INTERVAL, Verdict, pairs_needed};
use crate::units::{Ratio, format_count, format_ns, format_share, plural};

/// `64 lanes · 1 CPU · hyper · closed loop · 6 trials`.
pub fn heading(group: &Group) -> String {
    format!("{} · {}", group.cell.place_words(&[]), plural(group.trials as u64, "trial"))
}

/// The columns of a group; those that no row has a value for are left out.
pub fn columns(group: &Group) -> Vec<Column> {
    let mut table = Columns::of(&group.rows);
    let side = match &group.cell {
        cell if cell.target.is_some() => "target",
        cell if cell.tests_server() => "server",
        _ => "engine",
    };
    table.text(side, |r| clean(&r.name));
    let figures = || group.rows.iter().flat_map(|r| &r.figures);
    if figures().any(|f| f.by_requests) {
        table.number("elapsed", |r| figure(r, true, &|f| value(f, Measure::Elapsed)));
    }
    let place = match () {
        () if group.cell.is_idle() => ShownIn::Idle,
        () if group.cell.counts_events() => ShownIn::Counted,
        () => ShownIn::Table,
    };
    for Facts { measure, title, level, .. } in measures::shown(place) {
        let known = figures().any(|f| value(f, *measure).is_some());
        if known || figures().next().is_none() {
            let title = title_of(group, *measure, title);
            table.number(title, |r| figure(r, *level, &|f| value(f, *measure)));
        }
        beside(&mut table, group, *measure);
    }
    if group.rows.iter().any(|r| !status(r).is_empty()) {
        table.add("status", ColumnKind::Status, status);
    }
    table.all()
}

/// Memory is per lane where more lanes showed what one more costs, and else a share of the whole.
fn title_of<'t>(group: &Group, measure: Measure, title: &'t str) -> &'t str {
    let figures = || group.rows.iter().flat_map(|r| &r.figures);
    match measure {
        Measure::Achieved if UNANSWERED.iter().any(|(_, of)| some_are(group, *of)) => {
            "goodput\nreq/s"
        }
        Measure::MemoryPerLane if figures().any(|f| f.slopes.is_some()) => "memory\nper lane",
        Measure::KernelPerLane if figures().any(|f| f.slopes.is_some()) => "+ kernel\nper lane",
        _ => title,
    }
}

/// A column of requests that a server did not answer, and their number.
type Unanswered = (&'static str, fn(&Ledger) -> u64);

const UNANSWERED: [Unanswered; 3] = [
    ("refused\nor failed", |ledger| ledger.failed),
    ("timed\nout", |ledger| ledger.timed_out),
    ("found no\nconnection", |ledger| ledger.unsent),
];

/// Whether an overloaded server left some of its requests like that.
fn some_are(group: &Group, of: fn(&Ledger) -> u64) -> bool {
    let server = group.cell.tests_server() && group.cell.arrivals.is_open();
    server && group.rows.iter().flat_map(|r| &r.figures).any(|f| of(&f.ledger) > 0)
}

/// What stands beside a measure: times beside the rate, ratios beside what they compare.
fn beside(table: &mut Columns<'_, Row>, group: &Group, measure: Measure) {
    match measure {
        Measure::Achieved => {
            // Overload is a state of a server like any other: its figures stand beside the goodput.
            for (title, of) in UNANSWERED.iter().filter(|(_, of)| some_are(group, *of)) {
                let share = |f: &Figures| {
                    Some(format_share(of(&f.ledger) as f64 / f.ledger.planned.max(1) as f64))
                };
                table.number(*title, |r| figure(r, false, &share));
            }
            let open = [
                ("response\np50", Channel::Response, 0.5),
                ("response\np99", Channel::Response, 0.99),
                ("start delay\np99", Channel::StartDelay, 0.99),
                ("lane wait\np99", Channel::LaneWait, 0.99),
            ];
            let closed =
                [("service\np50", Channel::Service, 0.5), ("service\np99", Channel::Service, 0.99)];
            let times: &[_] = if group.cell.arrivals.is_open() { &open } else { &closed };
            for (title, channel, q) in times {
                let time = |f: &Figures| {
                    let times = f.times(*channel);
                    let interval = times.interval(*q).filter(|_| *q > 0.5).map(interval);
                    Some(quantile(times, *q)? + &interval.unwrap_or_default())
                };
                table.number(*title, |r| figure(r, true, &time));
            }
            ratio(table, group, "achieved", Measure::Achieved);
            ratio(table, group, "p50", Measure::P50);
            ratio(table, group, "p99", Measure::P99);
        }
        Measure::CpuPerRequest => ratio(table, group, "CPU", measure),
        Measure::MemoryPerLane => ratio(table, group, "memory", Measure::Memory),
        _ => {}
    }
}

/// A column of ratios, where they are told.
fn ratio(table: &mut Columns<'_, Row>, group: &Group, what: &str, measure: Measure) {
    let Some(name) = compared_with(group) else { return };
    // A p99 takes more requests than short trials of a target have.
    let bare = measure == Measure::P99 && group.rows.iter().all(|r| r.ratio(measure).is_none());
    if !bare && measures::compared(&group.cell).any(|facts| facts.measure == measure) {
        table.number(format!("{what}\n÷ {name}"), |r| compared(group, r, measure));
    }
}

pub(super) fn value(f: &Figures, measure: Measure) -> Option<String> {
    let text = |m: Measure| f.get(m).map(|v| m.print(v));
    let slope = f.slopes.and_then(|(memory, kernel)| match measure {
        Measure::MemoryPerLane => Some(Some(memory)),
        Measure::KernelPerLane => Some(kernel),
        _ => None,
    });
    if let Some(slope) = slope {
        return slope.map(|bytes| measure.print(bytes));
    }
    match measure {
        Measure::Switches => text(Measure::Voluntary)
            .zip(text(Measure::Involuntary))
            .map(|(voluntary, involuntary)| format!("{voluntary} + {involuntary}")),
        // Only rows of format 1 know no more than a peak.
        Measure::Memory | Measure::MemoryPerLane if f.get(measure).is_none() => {
            let lanes = f.get(Measure::Lanes).unwrap_or(1.0);
            let each = if measure == Measure::Memory { 1.0 } else { lanes };
            f.get(Measure::MemoryBound)
                .filter(|_| f.peak_is_bound)
                .map(|v| format!("≤ {}", measure.print(v / each)))
        }
        _ => text(measure),
    }
}

/// The reference's name, if there is anything to compare it with.
fn compared_with(group: &Group) -> Option<String> {
    let reference = group.reference.filter(|_| group.rows.len() > 1)?;
    Some(clean(&group.rows[reference].name))
}

/// A figure of a row, with a tilde where it is a level from a busy machine.
fn figure(row: &Row, level: bool, cell: &dyn Fn(&Figures) -> Option<String>) -> Option<String> {
    let text = row.figures.as_ref().and_then(cell)?;
    let busy = row.ranked && level && row.noisy_levels;
    Some(if busy { format!("~{text}") } else { of_trials(row.ranked, text) })
}

/// A figure; in parentheses where it comes from trials that failed a quality check.
pub(super) fn of_trials(ranked: bool, text: String) -> String {
    if ranked { text } else { format!("({text})") }
}

/// A quantile, or what share of the requests was lost where that leaves it without a number.
pub(super) fn quantile(times: &Percentiles, q: f64) -> Option<String> {
    if let Some(lost) = times.lost_beyond(q) {
        return Some(format!("lost {}", format_share(lost)));
    }
    let at = QUANTILES.iter().position(|(_, known)| *known == q)?;
    Some(times.all()[at]?.to_string())
}

/// The interval of a percentile, for the line below it.
fn interval((low, high): (Option<u64>, Option<u64>)) -> String {
    let print = |end: Option<u64>| end.map_or("lost".into(), |ns| format_ns(ns as f64));
    format!("\n[{}, {}]", print(low), print(high))
}

fn compared(group: &Group, row: &Row, measure: Measure) -> Option<String> {
    if group.reference.is_some_and(|at| std::ptr::eq(&group.rows[at], row)) {
        return Some("baseline".into());
    }
    let Comparison { estimate, verdict, .. } = row.ratio(measure)?;
    let point = format!("{}{}", verdict.mark(), Ratio(estimate.ratio));
    Some(match estimate.interval() {
        // As many decimals as the ratio has, so that the eye compares like with like.
        Some((low, high)) if estimate.ratio < 0.1 => format!("{point}\n[{low:.3}, {high:.3}]"),
        Some((low, high)) => format!("{point}\n[{low:.2}, {high:.2}]"),
        None => point,
    })
}

/// How the trials of a row ended, and its flags; empty if all is well.
fn status(row: &Row) -> String {
    let t = &row.tally;
    let ends = [
        (t.failed, "failed"),
        (t.invalid, "invalid"),
        (t.interrupted, "interrupted"),
        (t.noisy, "noisy"),
    ];
    let ends = ends.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| match n == t.blocks {
        true => word.to_string(),
        false => format!("{n} of {} {word}", t.blocks),
    });
    // That the target is the user's own is no news.
    let told = [Flag::Noisy, Flag::ExternalTarget];
    let flags = row.flags.iter().filter(|f| !told.contains(f));
    ends.chain(flags.map(|f| clean(&f.name()).replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// Each group as a table. How to read its marks is told once, below the last of the
/// groups in a row that it is the same for.
pub(crate) fn sections(groups: &[Group]) -> Vec<Section> {
    let legends: Vec<Vec<String>> = groups.iter().map(legend).collect();
    let told_below =
        |at: usize, line: &String| legends.get(at + 1).is_some_and(|l| l.contains(line));
    let all = groups.iter().enumerate().map(|(at, group)| {
        let own = legends[at].iter().filter(|line| !told_below(at, line));
        let notes = notes(group).into_iter().chain(own.cloned()).collect();
        Section { heading: heading(group), columns: columns(group), notes }
    });
    all.collect()
}

fn notes(group: &Group) -> Vec<String> {
    let of_row = |row: &Row| {
        let (blocks, empty) = (row.tally.blocks, row.tally.empty);
        let sent = row.figures.as_ref().is_some_and(|f| f.ledger.planned > 0);
        let empty = (empty > 0 && sent)
            .then(|| format!("no request fell inside the window in {}", of(empty, blocks)));
        let errors = row.errors.iter();
        let errors =
            errors.map(|(error, trials)| format!("{}: {}", of(*trials, blocks), clean(error)));
        // How busy the machine was is said once, above all groups; see `busy`.
        // Nor is it news that requests that were sent late were sent a little late.
        let failed = || row.failed_gates.keys().map(|gate| GateKind::of(gate));
        let late = failed().any(|gate| gate == Some(GateKind::PacerDelay));
        let told = |gate: &GateKind| busy::TOLD.contains(gate) || late && *gate == GateKind::Late;
        let untold = |gate: &str| !GateKind::of(gate).is_some_and(|gate| told(&gate));
        let gates = row.failed_gates.iter().filter(|(gate, _)| untold(gate));
        let gates = gates.map(|(gate, failed)| gate_note(gate, failed, blocks));
        let more = [lost(row), connections(row), lanes_ran_out(row)].into_iter().flatten();
        let name = clean(&row.name);
        let all = empty.into_iter().chain(errors).chain(gates).chain(more);
        all.map(|text| format!("{name}: {text}")).collect::<Vec<_>>()
    };
    group.rows.iter().flat_map(of_row).collect()
}

fn legend(group: &Group) -> Vec<String> {
    let rows = || group.rows.iter();
    let is_bound = |f: &Figures| f.peak_is_bound && f.get(Measure::Memory).is_none();
    let fixed = [
        (
            rows().any(|r| !r.ranked && r.figures.is_some()),
            "(…) failed a quality check: shown for information, left out of comparisons",
        ),
        (
            rows().any(|r| r.ranked && r.noisy_levels),
            "~ the machine was busy with something else in more than half of the trials: times and \
             CPU are those of a busy machine; ratios hold, with wider intervals",
        ),
        (
            group.cell.counts_events(),
            "the kernel counted events, which costs CPU and time: neither is compared",
        ),
        (
            rows().flat_map(|r| &r.figures).any(is_bound),
            "≤ upper bound: the peak could not be reset before the lanes started and counts from the \
             start of the process; left out of ratios",
        ),
    ];
    let fixed = fixed.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text.into());
    fixed.chain(how_to_read(group)).collect()
}

fn of(trials: usize, blocks: usize) -> String {
    format!("{trials} of {}", plural(blocks as u64, "trial"))
}

/// What a gate saw, and in how many trials.
pub(super) fn gate_seen(name: &str, gate: &FailedGate, blocks: usize) -> String {
    let what = clean(&gates::failure(name, gate.value, gate.limit));
    let way = gates::way_out(name).filter(|_| gate.hard);
    let way = way.map_or(String::new(), |way| format!("; {way}"));
    format!("{}: {what}{way}", of(gate.trials, blocks))
}

/// The same after what it means for the row.
fn gate_note(name: &str, gate: &FailedGate, blocks: usize) -> String {
    let kind = match GateKind::of(name) {
        Some(GateKind::Linger) => "lingering",
        _ if gate.hard => "not reliable",
        _ => "noisy",
    };
    format!("{kind} in {}", gate_seen(name, gate, blocks))
}

/// Requests of the shown trials that did not complete.
fn lost(row: &Row) -> Option<String> {
    let ledger = row.figures.as_ref()?.ledger;
    if ledger.planned == 0 && !row.cell.is_idle() {
        return Some("no request fell inside the window".into());
    }
    let parts =
        [(ledger.failed, "failed"), (ledger.timed_out, "timed out"), (ledger.unsent, "unsent")];
    let parts = parts.into_iter().filter(|(n, _)| *n > 0);
    let parts: Vec<_> = parts.map(|(n, word)| format!("{} {word}", format_count(n))).collect();
    let planned = format_count(ledger.planned);
    (!parts.is_empty()).then(|| format!("of {planned} requests, {}", parts.join(", ")))
}

/// Connects, where there are about as many as requests, and TLS handshakes: neither is service time.
fn connections(row: &Row) -> Option<String> {
    let figures = row.figures.as_ref()?;
    let (connect, handshake) = (figures.times(Channel::Connect), figures.times(Channel::Handshake));
    let often = figures.reconnects > figures.ledger.planned / 2;
    if handshake.count == 0 && !often {
        return None;
    }
    let times = |p: &Percentiles| {
        let text = |at: Option<Percentile>| or_dash(at.map(|at| at.to_string()));
        format!("p50 {}, p99 {}", text(p.p50), text(p.p99))
    };
    let tls = match &figures.tls {
        Some(agreed) if handshake.count > 0 => {
            format!("; handshake {} ({})", times(handshake), clean(agreed))
        }
        _ => String::new(),
    };
    Some(format!("{} connections: connect {}{tls}", format_count(connect.count), times(connect)))
}

/// In an open loop, requests that waited for a lane measure too few lanes, not the target.
///
/// Lane wait holds the wake-up of a parked lane as well, some tens of microseconds; hence the floor.
fn lanes_ran_out(row: &Row) -> Option<String> {
    let figures = row.figures.as_ref()?;
    let waits = figures.times(Channel::LaneWait);
    // Where few requests found a lane at all, a lower percentile must do.
    let (name, wait) = [("p99", waits.p99), ("p90", waits.p90), ("p50", waits.p50)]
        .into_iter()
        .find_map(|(name, wait)| Some((name, wait?.ns as f64)))?;
    // Where lanes were free, what was waited for is the CPU.
    let lanes = u64::from(row.cell.total_lanes);
    if figures.in_flight_peak.is_some_and(|peak| peak < lanes) && figures.ledger.unsent == 0 {
        return None;
    }
    let service = figures.times(Channel::Service).served_p50_ns? as f64;
    let (lanes, ran_out) = (format_count(lanes), wait > (0.05 * service).clamp(200e3, 1e6));
    let wait = format_ns(wait);
    match row.flags.contains(&Flag::Overloaded) {
        true => Some(format!(
            "overloaded: all {lanes} connections waited for the server; {name} wait for a free one \
             {wait}, which the response time holds"
        )),
        false if ran_out => Some(format!(
            "lanes ran out: all {lanes} lanes were busy; {name} wait for a free one {wait}; add lanes"
        )),
        false => None,
    }
}

/// What ratios are to, and what is said of them.
fn how_to_read(group: &Group) -> Option<String> {
    let name = compared_with(group)?;
    let shown: Vec<Comparison> =
        group.rows.iter().flat_map(|r| r.ratios.iter().map(|(_, ratio)| *ratio)).collect();
    if shown.is_empty() {
        return None;
    }
    let any = |is: fn(&Verdict) -> bool| shown.iter().any(|c| is(&c.verdict));
    let intervals = match shown.iter().any(|c| c.estimate.interval().is_some()) {
        true => ", 95 % intervals".into(),
        false => format!("; no intervals under {MIN_FOR_INTERVAL} trials"),
    };
    let mut parts = vec![format!("ratios to {name} within blocks{intervals}")];
    if any(|v| matches!(v, Verdict::Equal { .. })) {
        parts.push(format!("≈ equal within {}", format_share(group.margin)));
    }
    if any(|v| matches!(v, Verdict::Undecided { up_to: Some(_) })) {
        parts.push(undecided(group, &shown));
    }
    for (measure, (low, high)) in &group.floors {
        let what = match measure {
            Measure::CpuPerRequest => "CPU".into(),
            measure => measure.words(),
        };
        parts.push(format!("noise floor of {what} [{low:.3}, {high:.3}]"));
    }
    Some(parts.join("; "))
}

/// How large an undecided ratio may be, and how many trials it takes before any of so many
/// comparisons can be settled.
fn undecided(group: &Group, shown: &[Comparison]) -> String {
    let alone = |c: &&Comparison| {
        let apart = c.estimate.interval().is_some_and(|(low, high)| low > 1.0 || high < 1.0);
        apart && matches!(c.verdict, Verdict::Undecided { .. })
    };
    let mut text = String::from("? undecided, could be any ratio of the interval");
    if shown.iter().any(|c| alone(&c)) {
        text.push_str(&format!(
            "; where that excludes 1, not yet shown among {} comparisons (Holm)",
            group.among
        ));
    }
    let enough = pairs_needed(group.among) as usize;
    if enough > group.trials {
        text.push_str(&format!(", run at least {enough} trials"));
    }
    text
}

/// As a sentence begins.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Text from configs and targets without what would steer a terminal, or turn the direction of the
/// line round so that it reads as something else.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}
