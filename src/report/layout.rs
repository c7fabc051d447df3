//! Groups → words: the columns, the cells and the notes that every rendering of a group shares.

use super::summary::{FailedGate, Figures, Group, Percentiles, Row};
use crate::stats::hdr::Percentile;
use crate::stats::{Comparison, MIN_FOR_INTERVAL, Verdict, pairs_needed};
use crate::units::{
    Ratio, format_bytes, format_count, format_ns, format_rate, format_share, plural,
};

/// Title of the column that says how trials ended.
pub const STATUS: &str = "status";

/// A column; a title may hold one line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What it holds.
    pub title: String,
    /// Whether its cells are numbers.
    pub number: bool,
    /// One text a row; an interval stands after a line break.
    pub cells: Vec<String>,
}

/// `64 lanes · 1 CPU · hyper · closed loop · 6 trials`.
pub fn heading(group: &Group) -> String {
    format!("{} · {}", group.cell.place_words(&[]), plural(group.trials as u64, "trial"))
}

/// The columns of a group; those that say nothing here are left out.
pub fn columns(group: &Group) -> Vec<Column> {
    let mut columns = vec![Column {
        title: "engine".into(),
        number: false,
        cells: group.rows.iter().map(|r| clean(&r.name)).collect(),
    }];
    let mut add = |title: &str, cell: &dyn Fn(&Figures) -> String| {
        let level = LEVELS.iter().any(|word| title.starts_with(word));
        let cells = group.rows.iter().map(|r| figure(r, level, cell)).collect();
        columns.push(Column { title: title.into(), number: true, cells });
    };
    let any = |has: fn(&Figures) -> bool| group.rows.iter().flat_map(|r| &r.figures).any(has);
    if any(|f| f.elapsed_ns.is_some()) {
        add("elapsed", &|f| f.elapsed_ns.map_or_else(dash, format_ns));
    }
    if !group.is_idle() {
        add("achieved\nreq/s", &|f| format_rate(f.achieved_per_s));
    }
    if group.cell.arrivals.is_open() {
        add("response\np50", &|f| percentile(f.response.p50));
        add("response\np99", &|f| percentile(f.response.p99));
        add("start delay\np99", &|f| percentile(f.start_delay.p99));
        add("lane wait\np99", &|f| percentile(f.lane_wait.p99));
    } else if !group.is_idle() {
        add("service\np50", &|f| percentile(f.service.p50));
        add("service\np99", &|f| percentile(f.service.p99));
    }
    if group.is_idle() {
        add("set-up", &|f| format_ns(f.setup_ns));
        add("CPU\na second", &|f| format_ns(f.cpu_per_second_ns));
    } else {
        add("CPU\na request", &|f| f.cpu_per_request_ns.map_or_else(dash, format_ns));
    }
    let peak = |f: &Figures, bytes: f64| {
        format!("{}{}", if f.peak_is_bound { "≤ " } else { "" }, format_bytes(bytes))
    };
    add("peak\nmemory", &|f| peak(f, f.memory_bytes));
    add("memory\na lane", &|f| peak(f, f.memory_per_lane_bytes));
    if any(|f| f.kernel_bytes.is_some()) {
        add("+ kernel\na lane", &|f| f.kernel_per_lane_bytes.map_or_else(dash, format_bytes));
    }
    if group.is_idle() {
        add("switches\na second", &|f| format_rate(f.switches_per_second));
    } else {
        add("switches\na request", &switches);
    }
    if group.counts_events() {
        let known =
            |v: Option<f64>, digits: usize| v.map_or_else(dash, |v| format!("{v:.digits$}"));
        add("system calls\na request", &|f| known(f.syscalls_per_request, 3));
        add("page faults\na request", &|f| known(f.faults_per_request, 3));
        add("migrations\na request", &|f| known(f.migrations_per_request, 3));
        add("queued for CPU\na request", &|f| {
            f.run_queue_wait_per_request_ns.map_or_else(dash, format_ns)
        });
        if any(|f| f.instructions_per_request.is_some()) {
            add("instructions\na request", &|f| known(f.instructions_per_request, 0));
        }
    }
    add("threads", &|f| format_count(f.threads.round() as u64));
    if let Some(name) = compared_with(group) {
        let ratio = |what: &str, of: fn(&Row) -> Option<Comparison>| Column {
            title: format!("{what}\n÷ {name}"),
            number: true,
            cells: group.rows.iter().enumerate().map(|(i, r)| compared(group, i, of(r))).collect(),
        };
        // Beside what they compare: CPU first, so that the later position is still right.
        let memory_at =
            columns.iter().position(|c| c.title == "memory\na lane").map_or(0, |i| i + 1);
        columns.insert(memory_at, ratio("memory", |r| r.memory_ratio));
        let cpu_at = columns.iter().position(|c| c.title == "CPU\na request").map_or(0, |i| i + 1);
        columns.insert(cpu_at, ratio("CPU", |r| r.cpu_ratio));
    }
    let status: Vec<String> = group.rows.iter().map(status).collect();
    if status.iter().any(|s| !s.is_empty()) {
        columns.push(Column { title: STATUS.into(), number: false, cells: status });
    }
    columns
}

/// The reference's name, if there is anything to compare it with.
fn compared_with(group: &Group) -> Option<String> {
    let reference = group.reference.filter(|_| group.rows.len() > 1)?;
    Some(clean(&group.rows[reference].name))
}

fn dash() -> String {
    "-".into()
}

/// How the titles of columns begin that a busy machine moves.
const LEVELS: [&str; 7] =
    ["elapsed", "achieved", "service", "response", "start delay", "lane wait", "CPU"];

/// A figure; in parentheses where it comes from trials that are not to be believed, with a tilde
/// where it is a level from a busy machine.
fn figure(row: &Row, level: bool, cell: &dyn Fn(&Figures) -> String) -> String {
    match &row.figures {
        Some(f) if row.ranked && level && row.noisy_levels => format!("~{}", cell(f)),
        Some(f) if row.ranked => cell(f),
        Some(f) => format!("({})", cell(f)),
        None => dash(),
    }
}

/// A percentile; `≥` before one that falls on a request that was given up.
pub fn percentile(value: Option<Percentile>) -> String {
    match value {
        None => dash(),
        Some(p) => format!("{}{}", if p.lower_bound { "≥ " } else { "" }, format_ns(p.ns as f64)),
    }
}

fn switches(f: &Figures) -> String {
    match f.voluntary_per_request.zip(f.involuntary_per_request) {
        Some((v, i)) => format!("{v:.2} + {i:.2}"),
        None => dash(),
    }
}

fn compared(group: &Group, row: usize, comparison: Option<Comparison>) -> String {
    if group.reference == Some(row) {
        return "baseline".into();
    }
    let Some(Comparison { estimate, verdict, .. }) = comparison else { return dash() };
    let point = format!("{}{}", verdict.mark(), Ratio(estimate.ratio));
    match estimate.interval() {
        // As many decimals as the ratio has, so that the eye compares like with like.
        Some((low, high)) if estimate.ratio < 0.1 => format!("{point}\n[{low:.3}, {high:.3}]"),
        Some((low, high)) => format!("{point}\n[{low:.2}, {high:.2}]"),
        None => point,
    }
}

/// How the trials of a row ended, and its flags; empty if all is well.
fn status(row: &Row) -> String {
    let t = &row.tally;
    let mut parts: Vec<String> = [
        (t.failed, "failed"),
        (t.invalid, "invalid"),
        (t.interrupted, "interrupted"),
        (t.noisy, "noisy"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(
        |(n, word)| {
            if n == t.blocks { word.to_string() } else { format!("{n} of {} {word}", t.blocks) }
        },
    )
    .collect();
    parts.extend(row.flags.iter().filter(|f| *f != super::summary::NOISY).map(|f| clean(f)));
    parts.join(", ")
}

/// What must be said below a group: failures, gates, lanes that ran out, how to read the marks.
pub fn notes(group: &Group) -> Vec<String> {
    let mut notes = Vec::new();
    for row in &group.rows {
        let name = clean(&row.name);
        for (error, trials) in &row.errors {
            notes.push(format!("{name}: {}: {}", of(*trials, row.tally.blocks), clean(error)));
        }
        for (gate, failed) in &row.failed_gates {
            notes.push(format!("{name}: {}", gate_note(gate, failed, row.tally.blocks)));
        }
        notes.extend(lost(row).map(|text| format!("{name}: {text}")));
        notes.extend(connections(row).map(|text| format!("{name}: {text}")));
        notes.extend(lanes_ran_out(row).map(|text| format!("{name}: {text}")));
    }
    if group.rows.iter().any(|r| !r.ranked && r.figures.is_some()) {
        notes.push("( ) from trials that are not to be believed: shown, never compared".into());
    }
    if group.rows.iter().any(|r| r.ranked && r.noisy_levels) {
        notes.push(
            "~ the machine was busy with something else in more than half of the trials: times and \
             CPU are those of a busy machine; ratios hold, with what the noise adds to their \
             intervals"
                .into(),
        );
    }
    if group.counts_events() {
        notes.push(
            "the kernel counted events: CPU and times hold what that costs, and are not compared"
                .into(),
        );
    }
    if group.rows.iter().flat_map(|r| &r.figures).any(|f| f.peak_is_bound) {
        notes.push(
            "≤ the peak could not be reset before the lanes were there and counts from the start of \
             the process: an upper bound, in no ratio"
                .into(),
        );
    }
    notes.extend(how_to_read(group));
    notes
}

fn of(trials: usize, blocks: usize) -> String {
    format!("{trials} of {blocks} trial{}", if blocks == 1 { "" } else { "s" })
}

/// Which gate failed, how often, what was seen and what is allowed.
pub(super) fn gate_note(name: &str, gate: &FailedGate, blocks: usize) -> String {
    let number = |v: f64| {
        if name.ends_with("_ns") {
            return format_ns(v);
        }
        let text = format!("{v:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    let seen = match (gate.value, gate.limit) {
        (Some(value), Some(limit)) => format!(": {}, limit {}", number(value), number(limit)),
        (Some(value), None) => format!(": {}", number(value)),
        _ => String::new(),
    };
    let kind = if gate.hard { "hard" } else { "noise" };
    format!("{kind} gate {} failed in {}{seen}", clean(name), of(gate.trials, blocks))
}

/// Requests of the shown trials that did not complete.
fn lost(row: &Row) -> Option<String> {
    let ledger = row.figures.as_ref()?.ledger;
    if ledger.planned == 0 && !row.cell.is_idle() {
        return Some("no request fell inside the window".into());
    }
    let parts: Vec<String> =
        [(ledger.failed, "failed"), (ledger.timed_out, "timed out"), (ledger.unsent, "unsent")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{} {word}", format_count(n)))
            .collect();
    (!parts.is_empty())
        .then(|| format!("of {} requests, {}", format_count(ledger.planned), parts.join(", ")))
}

/// Connects, where there are about as many as requests, and TLS handshakes: neither is service time.
fn connections(row: &Row) -> Option<String> {
    let figures = row.figures.as_ref()?;
    let (connect, handshake) = (&figures.connect, &figures.handshake);
    let often = figures.reconnects > figures.ledger.planned / 2;
    if handshake.count == 0 && !often {
        return None;
    }
    let times = |p: &Percentiles| format!("p50 {}, p99 {}", percentile(p.p50), percentile(p.p99));
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
    let waits = &figures.lane_wait;
    // Where few requests found a lane at all, a lower percentile must do.
    let (name, wait) = [("99th", waits.p99), ("90th", waits.p90), ("50th", waits.p50)]
        .into_iter()
        .find_map(|(name, wait)| Some((name, wait?.ns as f64)))?;
    let service = figures.service.p50?.ns as f64;
    (wait > (0.05 * service).clamp(200e3, 1e6)).then(|| {
        format!(
            "lanes ran out: the {name} percentile of lane wait is {}, with {} lanes",
            format_ns(wait),
            format_count(row.cell.total_lanes.into())
        )
    })
}

/// The marks that occur in the group, explained.
fn how_to_read(group: &Group) -> Option<String> {
    let name = compared_with(group)?;
    let shown: Vec<Comparison> =
        group.rows.iter().flat_map(|r| [r.cpu_ratio, r.memory_ratio]).flatten().collect();
    if shown.is_empty() {
        return None;
    }
    let any = |is: fn(&Verdict) -> bool| shown.iter().any(|c| is(&c.verdict));
    let mut parts = Vec::new();
    if shown.iter().any(|c| c.estimate.interval().is_some()) {
        parts.push(format!("ratios to {name} within blocks, 95 % intervals"));
    } else {
        parts.push(format!(
            "ratios to {name} within blocks; no intervals under {MIN_FOR_INTERVAL} trials"
        ));
    }
    if any(|v| matches!(v, Verdict::Equal { .. })) {
        parts.push(format!("≈ equal within {}", format_share(group.margin)));
    }
    if any(|v| matches!(v, Verdict::Undecided { up_to: Some(_) })) {
        parts.push(undecided(group, &shown));
    }
    for (what, floor) in [("CPU", group.cpu_floor), ("memory", group.memory_floor)] {
        if let Some((low, high)) = floor {
            parts.push(format!("noise floor of {what} [{low:.3}, {high:.3}]"));
        }
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

/// Text from configs and targets without what would steer a terminal, or turn the direction of the
/// line round so that it reads as something else.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}
