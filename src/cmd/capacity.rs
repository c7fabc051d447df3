//! `duel capacity`: from the cells of a run to hosts; runs nothing.

use std::process::ExitCode;

use crate::cli::{Capacity as Arguments, Hosts};
use crate::driver::host::Machine;
use crate::limits::{Limits, TargetKind};
use crate::report::capacity::{Plan, Question, measured_rate, plan};
use crate::results::store::{Run, RunDir};
use crate::units::{parse_count, parse_duration_ns, parse_rate, parse_size};

/// Prints how many hosts a rate needs under each engine.
pub fn run(args: &Arguments) -> ExitCode {
    let run = match RunDir::open(&args.dir) {
        Ok(run) => run,
        Err(error) => return super::usage(error),
    };
    for warning in &run.warnings {
        say!("duel: {warning}");
    }
    let asked = question(Some(&args.rate), &args.hosts, &run)
        .and_then(|q| answer(&run, &q.ok_or("no rate")?));
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => return super::usage(error),
    };
    if args.json {
        let json = serde_json::to_string_pretty(&answer).expect("a plan is plain data");
        crate::terminal::print(&(json + "\n"));
    } else {
        crate::terminal::print(&answer.text());
    }
    // A question that no engine answers is not answered.
    let answered = answer.engines.iter().any(|e| e.answer.is_ok());
    if answered { ExitCode::SUCCESS } else { ExitCode::from(super::exit::FAILED) }
}

/// Answers a question by a run's records and the limits of its machine.
pub(super) fn answer(run: &Run, question: &Question) -> Result<Plan, String> {
    let limits: Limits = serde_json::from_value(run.plan.limits.clone())
        .map_err(|error| format!("{}: limits: {error}", run.path.display()))?;
    let away = TargetKind::External { loopback: false };
    Ok(plan(&run.records, question, &|engine| limits.predict(engine, away)))
}

/// The question of the flags. Without a rate it is the highest that the run measured within the
/// bound; `None` where there is none.
pub(super) fn question(
    rate: Option<&String>,
    hosts: &Hosts,
    run: &Run,
) -> Result<Option<Question>, String> {
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
    let given = read("rate", rate, parse_rate)?;
    let p99_ns = read("p99", hosts.p99.as_ref(), time)?;
    let latency_ns = read("latency", hosts.latency.as_ref(), time)?;
    let memory = read("memory", hosts.memory.as_ref(), size)?;
    let named = read("cpus", hosts.cpus.as_ref(), cpus)?;
    let growth_per_year = growth(&hosts.growth)?;
    if !(0.0..=600.0).contains(&hosts.months) {
        return Err(format!("--months: {} is not from 0 to 600", hosts.months));
    }
    let Some(rate_per_s) = given.or_else(|| measured_rate(&run.records, p99_ns)) else {
        return Ok(None);
    };
    let here = machine.cpus_online.len() as u32;
    Ok(Some(Question {
        rate_per_s,
        p99_ns,
        latency_ns,
        memory_bytes: memory
            .or(machine.memory_bytes)
            .ok_or("--memory: the run does not say; name a host's memory")?,
        cpus: named
            .or((here > 0).then_some(here))
            .ok_or("--cpus: the run does not say; name a host's CPUs")?,
        growth_per_year,
        months: hosts.months,
        spare: hosts.spare,
    }))
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
