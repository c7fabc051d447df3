//! `duel verify`: every engine and codec sends the same requests, byte for byte, or a table says
//! what differs.

use std::process::ExitCode;

use super::exit;
use crate::cli::{ConfigArgs, VerifyArgs};
use crate::driver::verify::{
    Difference, Sent, cells, compare, numbered, planned, request_line, run,
};
use crate::plan::Cell;
use crate::plan::prepare::NUMBER_HEADER;
use crate::plan::sweep::{Sweep, Target};
use crate::units::format_count;

/// Digits of a digest in a row; the last line has all of them.
const SHORT: usize = 16;

fn run_all(args: &VerifyArgs) -> anyhow::Result<u8> {
    let ConfigArgs { config, overrides } = &args.config;
    let sweep = crate::config::load(config, overrides).map_err(|e| anyhow::anyhow!("{e}"))?;
    let sweep = numbered(&sweep, args.requests)?;
    let plan = planned(&sweep.plan)?;
    let cells = cells(&sweep);
    crate::terminal::page(&heading(&sweep, &plan, &cells));
    let mut bad = 0;
    for cell in &cells {
        let (row, good) = row(&sweep, cell, &plan);
        crate::terminal::page(&row);
        bad += u32::from(!good);
    }
    let digest = plan.sum.hex();
    let requests = format_count(plan.requests.len() as u64);
    crate::terminal::page(&match bad {
        0 => format!(
            "one digest: every engine sent the plan's {requests} requests once, byte for byte\n\
             {digest}\n"
        ),
        1 => format!("1 run of {} differs from the plan\n", cells.len()),
        bad => format!("{bad} runs of {} differ from the plan\n", cells.len()),
    });
    Ok(if bad == 0 { 0 } else { exit::FAILED })
}

pub fn run_command(args: &VerifyArgs) -> super::Ended {
    run_all(args).map(ExitCode::from).map_err(|error| super::usage(format!("{error:#}")))
}

fn heading(sweep: &Sweep, plan: &Sent, cells: &[Cell]) -> String {
    let requests = format_count(plan.requests.len() as u64);
    let instead = match sweep.target {
        Target::Embedded(_) => "",
        Target::External { .. } => ", which stands in for the url",
    };
    format!(
        "{}: {requests} requests, numbered by `{NUMBER_HEADER}`, {} runs against the embedded \
         target{instead}\n\n{}{}",
        sweep.name,
        cells.len(),
        line([&first(sweep, "engine"), "codec", "processes", "lanes", "requests", "digest"], ""),
        line([&first(sweep, "the plan"), "", "", "", &requests, &plan.sum.hex()[..SHORT]], ""),
    )
}

/// The first column, which holds where steps go where that is swept.
fn first(sweep: &Sweep, text: &str) -> String {
    if sweep.axes.offload.is_empty() { text.into() } else { format!("{text:<27}") }
}

fn line(columns: [&str; 6], verdict: &str) -> String {
    let [engine, codec, processes, lanes, requests, digest] = columns;
    let text = format!(
        "{engine:<12}  {codec:<6} {processes:>9}  {lanes:>7}  {requests:>9}  {digest:<SHORT$}  {verdict}"
    );
    text.trim_end().to_string() + "\n"
}

fn row(sweep: &Sweep, cell: &Cell, plan: &Sent) -> (String, bool) {
    let (processes, lanes) = (cell.processes.to_string(), format_count(cell.lanes.into()));
    let engine = match cell.offload.filter(|_| !sweep.axes.offload.is_empty()) {
        Some(offload) => format!("{} {}", cell.engine.name(), offload.name()),
        None => cell.engine.name().into(),
    };
    let engine = first(sweep, &engine);
    let columns = |requests, digest| {
        [engine.as_str(), cell.codec.name(), &processes, &lanes, requests, digest]
    };
    let came = match run(sweep, cell) {
        Ok(came) => came,
        Err(error) => return (line(columns("-", "-"), &format!("failed: {error:#}")), false),
    };
    let (requests, digest) = (format_count(came.requests.len() as u64), came.sum.hex());
    let columns = columns(&requests, &digest[..SHORT]);
    match compare(plan, &came) {
        None => (line(columns, "the same"), true),
        Some(difference) => (line(columns, &describe(sweep, &difference)), false),
    }
}

/// `DIFFERS: 2 missing, 1 with other bytes; first: request 17 (GET /x) never came`.
fn describe(sweep: &Sweep, difference: &Difference) -> String {
    let parts = [
        (difference.missing, "missing"),
        (difference.extra, "too many"),
        (difference.other_bytes, "with other bytes"),
    ];
    let counts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", format_count(count)))
        .collect();
    let first = difference.first.map_or(String::new(), |(number, how)| match number {
        u64::MAX => format!("; first: a request without a number {how}"),
        number => {
            let what = request_line(&sweep.plan, number).map(|line| format!(" ({line})"));
            format!("; first: request {number}{} {how}", what.unwrap_or_default())
        }
    });
    format!("DIFFERS: {}{first}", counts.join(", "))
}
