//! `duel capacity`: from the cells of a run to hosts; runs nothing.

use std::process::ExitCode;

use crate::cli::Capacity as Arguments;
use crate::driver::host::Machine;
use crate::driver::limits::{Limits, TargetKind};
use crate::report::capacity::{Question, plan};
use crate::results::store::{Run, RunDir};
use crate::units::{parse_count, parse_duration_ns, parse_rate, parse_size};

/// Prints how many hosts a rate needs under each engine.
pub fn run(args: &Arguments) -> ExitCode {
    let run = match RunDir::open(&args.dir) {
        Ok(run) => run,
        Err(error) => return super::usage(error),
    };
    for warning in &run.warnings {
        eprintln!("duel: {warning}");
    }
    let question = match question(args, &run) {
        Ok(question) => question,
        Err(error) => return super::usage(error),
    };
    let limits: Limits = match serde_json::from_value(run.plan.limits.clone()) {
        Ok(limits) => limits,
        Err(error) => return super::usage(format!("{}: limits: {error}", args.dir.display())),
    };
    let away = TargetKind::External { loopback: false };
    let answer = plan(&run.records, &question, &|engine| limits.predict(engine, away));
    if args.json {
        let json = serde_json::to_string_pretty(&answer).expect("a plan is plain data");
        super::print(&(json + "\n"));
    } else {
        super::print(&answer.text());
    }
    // A question that no engine answers is not answered.
    let answered = answer.engines.iter().any(|e| e.answer.is_ok());
    if answered { ExitCode::SUCCESS } else { ExitCode::from(super::exit::FAILED) }
}

fn question(args: &Arguments, run: &Run) -> Result<Question, String> {
    fn read<T, E: std::fmt::Display>(
        flag: &str,
        text: Option<&String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        text.map(|t| parse(t)).transpose().map_err(|e| format!("--{flag}: {e}"))
    }
    let machine: Machine = serde_json::from_value(run.plan.machine.clone()).unwrap_or_default();
    let above_zero = |ns: u64| if ns > 0 { Ok(ns) } else { Err("must be above zero".to_string()) };
    let time = |t: &str| parse_duration_ns(t).map_err(|e| e.to_string()).and_then(above_zero);
    let size = |t: &str| parse_size(t).map_err(|e| e.to_string()).and_then(above_zero);
    let cpus = |t: &str| match parse_count(t).map(u32::try_from) {
        Ok(Ok(n @ 1..)) => Ok(n),
        Ok(_) => Err("a host has from 1 to 4,294,967,295 CPUs".to_string()),
        Err(error) => Err(error.to_string()),
    };
    let memory = read("memory", args.memory.as_ref(), size)?.or(machine.memory_bytes);
    let here = machine.cpus_online.len() as u32;
    Ok(Question {
        rate_per_s: parse_rate(&args.rate).map_err(|e| format!("--rate: {e}"))?,
        p99_ns: read("p99", args.p99.as_ref(), time)?,
        latency_ns: read("latency", args.latency.as_ref(), time)?,
        memory_bytes: memory.ok_or("--memory: the run does not say; name a host's memory")?,
        cpus: read("cpus", args.cpus.as_ref(), cpus)?
            .or((here > 0).then_some(here))
            .ok_or("--cpus: the run does not say; name a host's CPUs")?,
        growth_per_year: growth(&args.growth)?,
        months: args.months,
        spare: args.spare,
    })
    .and_then(|q| {
        if (0.0..=600.0).contains(&q.months) {
            Ok(q)
        } else {
            Err(format!("--months: {} is not from 0 to 600", q.months))
        }
    })
}

/// `30%` or `0.3`.
fn growth(text: &str) -> Result<f64, String> {
    let number = text.trim();
    let (number, by) = match number.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (number, 1.0),
    };
    let value = number.trim().parse::<f64>().map(|v| v / by).unwrap_or(f64::NAN);
    if value > -1.0 && value <= 100.0 {
        Ok(value)
    } else {
        Err(format!("--growth: `{text}` is not a yearly growth: write 30% or 0.3, above -100%"))
    }
}
