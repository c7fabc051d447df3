//! `duel plan`: what a sweep would do; runs nothing.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::sweep::{blocks, within_cap};
use crate::cli::{LISTEN, PlanArgs};
use crate::driver::trial::{admit, place, target_kind};
use crate::driver::{cpus, target};
use crate::limits::{Limits, PortBudget};
use crate::plan::sweep::{Sweep, TRIAL_OVERHEAD_NS};
use crate::plan::{Cell, Extent};
use crate::protocol::{Frame, Job, PROTOCOL_VERSION};
use crate::report::layout::Columns;
use crate::report::table;
use crate::stats::precision::FEWEST_BLOCKS;
use crate::units::{SECOND_NS, duration_literal, format_count, format_ns, format_share, plural};

/// What a timeout may be late by, beside a tenth of itself.
const TIMER_NS: f64 = 10e6;
/// Longest wait of a lane before it connects again.
const RECONNECT_NS: f64 = SECOND_NS as f64;

pub fn run(args: &PlanArgs) -> super::Ended {
    let sweep = super::load(&args.config, &args.allowed)?;
    match args.job {
        None => crate::terminal::page(&describe(&sweep)),
        Some(position) => {
            let job = job(&sweep, position).map_err(|error| super::usage(format!("{error:#}")))?;
            let mut line = Vec::new();
            Frame::Job(job).write_to(&mut line).expect("the job of a config is sound");
            crate::terminal::print(&String::from_utf8_lossy(&line));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(sweep: &Sweep) -> String {
    let mut lines = headline(sweep);
    let cells = sweep.cells();
    let (limits, allowed) = (Limits::read(), cpus::allowed().unwrap_or_default());
    let here = |cell: &Cell| {
        let verdict = verdict(sweep, &limits, &allowed, cell);
        verdict.unwrap_or_else(|why| format!("will fail: {why:#}"))
    };
    let numbered: Vec<(usize, &Cell)> = cells.iter().enumerate().collect();
    let mut table = Columns::of(&numbered);
    table.text("cell", |(_, cell)| cell.id.clone());
    table.number("number", |(number, _)| number.to_string());
    table.number("connections", |(_, cell)| format_count(cell.total_lanes.into()));
    table.text("here", |(_, cell)| here(cell));
    lines.extend(["".into(), table::plain(table.all(), crate::terminal::width())]);
    let mut rings = vec![];
    for cell in &cells {
        let server = sweep.server_plan(cell);
        let placed = place((sweep, &limits, &allowed), cell, None, None).unwrap_or_default();
        let on = |plan| (plan, placed.server_cpus(sweep, plan));
        let target = target_kind(sweep, cell, None);
        rings.extend(limits.rings_of(cell, target, server.as_ref().map(on)));
    }
    rings.sort_unstable();
    rings.dedup();
    lines.extend(rings);
    if sweep.search.is_some() {
        lines.push("order: decided as it goes, one trial of each cell in turn".into());
        let shares: Vec<String> =
            sweep.axes.knee_shares.iter().map(|share| format_share(*share)).collect();
        if !shares.is_empty() {
            lines.push(format!(
                "then a sweep at {} of each cell's knee, at most {} trials of each cell",
                shares.join(", "),
                format_count(sweep.trials_at_shares())
            ));
        }
    } else {
        lines.push("order of the cells, by number:".into());
        // More blocks than are sure to be run would only be more of the same.
        let shown = sweep.precision.map_or(sweep.trials, |_| FEWEST_BLOCKS) as usize;
        let order = sweep.order(cells.len());
        for block in order.chunk_by(|a, b| a.block == b.block).take(shown) {
            let names: Vec<String> = block.iter().map(|t| t.cell.to_string()).collect();
            lines.push(format!("  block {}: {}", block[0].block, names.join(" ")));
        }
    }
    lines.join("\n") + "\n"
}

/// What there is to run and how long that takes.
fn headline(sweep: &Sweep) -> Vec<String> {
    let (cells, trials) = (sweep.cells().len(), sweep.most_trials());
    let (name, of_cells) = (&sweep.name, plural(cells as u64, "cell"));
    let mut lines = vec![match &sweep.search {
        Some(search) => {
            format!("{name}: a search of {of_cells}, at most {trials} trials: {search}")
        }
        None if sweep.precision.is_some() => {
            format!("{name}: {of_cells}, at most {} blocks", sweep.trials)
        }
        None => format!("{name}: {of_cells} × {} = {}", sweep.trials, plural(trials, "trial")),
    }];
    lines.extend(blocks::forecast(sweep));
    let times = |ns: u64, n: u64| length(ns as f64 * n as f64);
    let most = length(most_ns(sweep) * f64::from(sweep.trials));
    lines.push(match sweep.trial_ns() {
        Some(ns) if sweep.search.is_some() => {
            format!("at most {} of load, then whatever is still in flight", times(ns, trials))
        }
        Some(ns) if sweep.precision.is_some() => {
            let least = times(ns, cells as u64 * u64::from(blocks::least(sweep)));
            format!(
                "about {} of load for each block, {least} for the fewest",
                times(ns, cells as u64)
            )
        }
        Some(ns) => format!("about {} of load, at most {most}", times(ns, trials)),
        None => format!(
            "time depends on the target: a closed loop by requests, at most {most} if each of them \
             times out"
        ),
    });
    lines.push(format!("plan hash {}", sweep.plan_hash()));
    if let Some(trace) = &sweep.plan.trace {
        let requests = format_count(trace.entries);
        let skipped = crate::plan::trace::skipped(&trace.skipped).unwrap_or_default();
        lines.push(format!("trace of {requests} requests{skipped}"));
    }
    if !sweep.plan.values.is_empty() && sweep.plan.trace.is_none() {
        let count = format_count(crate::plan::prepare::renderings(&sweep.plan));
        lines.push(format!(
            "{count} renderings, sent again from the first where a trial needs more"
        ));
    }
    lines
}

/// A time that people plan by: beyond two minutes nobody counts seconds.
fn length(ns: f64) -> String {
    match ns / SECOND_NS as f64 {
        s if s < 120.0 => format_ns(ns),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn verdict(sweep: &Sweep, limits: &Limits, allowed: &[u32], cell: &Cell) -> anyhow::Result<String> {
    let nth = cell.target_nth.unwrap_or(0) as usize;
    let external = target::resolve(sweep, nth)?;
    within_cap(sweep, cell, external.as_ref())?;
    let endpoint = external.map(|external| external.endpoint);
    let placement = place((sweep, limits, allowed), cell, endpoint.as_ref(), None)?;
    let ports = admit(sweep, limits, cell, endpoint.as_ref(), &placement)?;
    let shared = if placement.shared { "; shares a CPU with the target" } else { "" };
    let ports = ports.filter(PortBudget::may_run_out).map_or(String::new(), |ports| {
        format!("; keep_alive = false may run out of ports: {ports}")
    });
    Ok(format!("runs{shared}{ports}"))
}

/// Longest time of all cells once: where requests wait their full timeout, or lanes for a connection
/// before each of them.
fn most_ns(sweep: &Sweep) -> f64 {
    let timeout = 1.1 * sweep.plan.timeout_ns as f64 + TIMER_NS;
    let of = |cell: Cell| {
        let plan = sweep.trial_plan(&cell);
        let window = match plan.extent {
            Extent::DurationNs(ns) => ns as f64 + timeout,
            Extent::Requests(n) => {
                let released = plan.offered_per_s.map_or(0.0, |rate| n as f64 / rate * 1e9);
                let each = n.div_ceil(u64::from(cell.total_lanes.max(1))) as f64;
                released + each * (timeout + RECONNECT_NS)
            }
        };
        plan.warmup_ns as f64 + window + TRIAL_OVERHEAD_NS as f64
    };
    sweep.cells().into_iter().map(of).sum()
}

/// The Job of the trial at `position` for its first worker. Secrets stay `$NAME` or masked.
fn job(sweep: &Sweep, position: u64) -> anyhow::Result<Job> {
    if sweep.search.is_some() {
        bail!("--job: a search decides its trials as it goes; set sweep.rates instead");
    }
    let cells = sweep.cells();
    let order = sweep.order(cells.len());
    let trial = order.iter().find(|t| u64::from(t.position) == position).with_context(|| {
        format!("--job {position}: this sweep has trials 0 to {}", order.len() - 1)
    })?;
    let cell = &cells[trial.cell];
    let nth = cell.target_nth.unwrap_or(0) as usize;
    let external = target::resolve(sweep, nth)?;
    let at = external.as_ref().map(|external| &external.endpoint);
    let placement = place((sweep, &Limits::read(), &cpus::allowed()?), cell, at, None)?;
    let (endpoint, tls) = match external {
        Some(external) => (external.endpoint, external.tls),
        None => {
            say!("duel: start a target for this job: duel target --listen {LISTEN}");
            (LISTEN.parse()?, None)
        }
    };
    say!(
        "duel: pipe this line, then {{\"frame\":\"go\",\"version\":{PROTOCOL_VERSION}}} and \
         {{\"frame\":\"start\",\"version\":{PROTOCOL_VERSION},\"at_ns\":0}}, into `duel worker`, \
         and keep its standard input open for {}",
        sweep.trial_ns().map_or("as long as it runs".into(), duration_literal)
    );
    let plan = sweep.masked().block_plan(cell, trial.block);
    let trial = format!("{} block {}", cell.id, trial.block);
    Ok(Job {
        cpus: placement.worker,
        tls,
        allowed: endpoint.foreign().into_iter().collect(),
        ..Job::of(cell, trial, vec![endpoint], plan)
    })
}
