//! `duel capacity`: from the cells of a run to hosts and money.

mod next;
mod prove;

use std::process::ExitCode;

use anyhow::{Context as _, Error, anyhow, bail};

use crate::cli::{CapacityArgs, HostsArgs};
use crate::limits::{Ceiling, Limits, PORT_RANGE, TargetKind};
use crate::plan::{Cell, Engine, classes};
use crate::report::capacity::hosts::{self, HostType};
use crate::report::capacity::{Plan, Question, measured_rate, plan};
use crate::report::markdown;
use crate::results::store::{Run, RunDir};
use crate::units::{parse_count, parse_duration_ns, parse_rate, parse_share, parse_size};

/// Most questions of a what-if table: more is a mistake.
const MOST_QUESTIONS: usize = 10_000;

pub fn run(args: &CapacityArgs) -> super::Ended {
    let run = RunDir::open(&args.dir).map_err(super::usage)?;
    for warning in &run.warnings {
        say!("duel: {warning}");
    }
    if args.prove {
        prove::run(&run).map_err(|error| super::usage(format!("--prove: {error:#}")))?;
    }
    let asked = questions(Some(&args.rate), &args.hosts, &run)
        .and_then(|asked| answer(&run, &asked.context("no rate")?));
    let answer = asked.map_err(super::usage)?;
    if args.suggest {
        let sweep = run.plan.sweep().context("the run holds no config");
        let text = sweep.and_then(|sweep| next::config(&answer, sweep));
        let text = text.map_err(|error| super::usage(format!("--suggest: {error:#}")))?;
        crate::terminal::print(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let text = match () {
        () if args.json => {
            serde_json::to_string_pretty(&answer).expect("a plan is plain data") + "\n"
        }
        () if args.csv => answer.csv(),
        () if args.markdown => markdown::capacity(&answer),
        () => answer.text(crate::terminal::width()),
    };
    if args.json || args.csv || args.markdown {
        crate::terminal::print(&text);
    } else {
        crate::terminal::page(&text);
    }
    // A question that no engine answers is not answered.
    let answered = answer.engines.iter().any(|e| e.answer.is_ok());
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::from(super::exit::FAILED) })
}

/// Answers questions by a run's records and the limits of its machine.
pub(super) fn answer(run: &Run, questions: &[Question]) -> anyhow::Result<Plan> {
    let limits: Limits = serde_json::from_value(run.plan.limits.clone())
        .map_err(|error| anyhow!("{}: limits: {error}", run.path.display()))?;
    let away = TargetKind::External { loopback: false };
    for host in questions.iter().map(|q| &q.host) {
        check_limits(host, &limits, away)?;
    }
    let plan = plan(&run.records, questions, &|cell| ceilings(&limits, cell));
    Ok(Plan { proofs: prove::read(run)?, ..plan })
}

/// What one process of the side under test can hit: of a server, what a client with as many threads
/// does, but for the ports.
fn ceilings(limits: &Limits, cell: &Cell) -> Vec<Ceiling> {
    let away = TargetKind::External { loopback: false };
    let Some(server) = cell.server_under_test() else { return limits.predict(cell.engine, away) };
    let mut all = limits.predict(server.alike(), away);
    all.retain(|ceiling| ceiling.limit != PORT_RANGE);
    all
}

/// Refuses a limit of a host that no engine counts lanes against.
fn check_limits(host: &HostType, limits: &Limits, away: TargetKind) -> anyhow::Result<()> {
    let predicted = Engine::ALL.into_iter().flat_map(|engine| limits.predict(engine, away));
    let mut known: Vec<String> = predicted.map(|ceiling| ceiling.limit).collect();
    known.sort_unstable();
    known.dedup();
    if let Some(name) = host.limits.keys().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        bail!("--hosts: {}: unknown limit `{name}`: allowed are {known}", host.name);
    }
    Ok(())
}

fn read<T, E: std::fmt::Display>(
    flag: &str,
    text: Option<&String>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> anyhow::Result<Option<T>> {
    text.map(|t| parse(t)).transpose().map_err(|e| anyhow!("--{flag}: {e}"))
}

/// Reads values that stand between commas, none twice.
fn list<E: std::fmt::Display>(
    flag: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<f64, E>,
) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let value = parse(part.trim()).map_err(|e| anyhow!("--{flag}: {e}"))?;
        if all.contains(&value) {
            bail!("--{flag}: `{}` is given twice: name each once", part.trim());
        }
        all.push(value);
    }
    Ok(all)
}

/// The questions of the flags, the plan's first. Without a rate it is the highest that the run
/// measured within the bound; `None` where there is none.
pub(super) fn questions(
    rate: Option<&String>,
    args: &HostsArgs,
    run: &Run,
) -> anyhow::Result<Option<Vec<Question>>> {
    let time = |t: &str| above_zero(parse_duration_ns(t)?);
    let rates = rate.map(|text| list("rate", text, parse_rate)).transpose()?;
    let sweep = run.plan.sweep();
    let slo = sweep.as_ref().and_then(|sweep| sweep.slo.clone()).unwrap_or_default();
    let classes = sweep.as_ref().map_or(vec![], |sweep| classes(&sweep.plan.mix));
    let class = class(args.class.as_deref(), &classes)?;
    let asked_p99_ns = read("p99", args.p99.as_ref(), time)?;
    let p99_ns = asked_p99_ns.or(class.and_then(|(_, own)| own)).or(slo.p99_ns);
    let class = class.map(|(name, _)| name.to_string());
    let availability = read("availability", args.availability.as_ref(), below_all)?
        .or(slo.error_rate.map(|lost| 1.0 - lost));
    let latency_ns = read("latency", args.latency.as_ref(), time)?;
    let is_service = run.records.iter().any(|record| record.cell.tests_server());
    let connections = read("connections", args.connections.as_ref(), parse_count)?;
    if connections.is_some() && !is_service {
        bail!(
            "--connections is for runs that test a server (server_engines); this one tests the client, \
             whose connections follow from the rate"
        );
    }
    let growths = list("growth", &args.growth, growth)?;
    let cpu_targets = list("cpu-target", &args.cpu_target, part)?;
    let memory_target = part(&args.memory_target).map_err(|e| anyhow!("--memory-target: {e}"))?;
    let months = read("months", Some(&args.months), months)?.unwrap_or_default();
    let spare = read("spare", Some(&args.spare), spare)?.unwrap_or_default();
    let hosts = hosts_of(args, run)?;
    let Some(rates) = rates
        .or_else(|| measured_rate(&run.records, class.as_deref(), p99_ns).map(|rate| vec![rate]))
    else {
        return Ok(None);
    };
    if rates.len() * growths.len() * cpu_targets.len() * hosts.len() > MOST_QUESTIONS {
        bail!("--rate, --growth, --cpu-target and --hosts make more than 10,000 plans");
    }
    let from = Some(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date());
    let mut questions = Vec::new();
    for &rate_per_s in &rates {
        for &growth_per_year in &growths {
            for &cpu_target in &cpu_targets {
                questions.extend(hosts.iter().map(|host| Question {
                    rate_per_s,
                    class: class.clone(),
                    p99_ns,
                    availability,
                    latency_ns,
                    connections: connections.map(|n| n as f64),
                    host: host.clone(),
                    cpu_target,
                    memory_target,
                    growth_per_year,
                    months,
                    from,
                    spare,
                }));
            }
        }
    }
    if class.is_none() {
        let by_class = by_class(&questions[0], &classes, (asked_p99_ns, p99_ns), &hosts);
        questions.extend(by_class);
    }
    Ok(Some(questions))
}

/// The first question for each class under its own bound, else under that of the run.
fn by_class(
    first: &Question,
    classes: &[(&str, Option<u64>)],
    (asked_p99_ns, of_run): (Option<u64>, Option<u64>),
    hosts: &[HostType],
) -> Vec<Question> {
    let of = |(name, own): &(&str, Option<u64>)| {
        let p99_ns = Some(asked_p99_ns.or(*own).or(of_run)?);
        let on = |host: &HostType| Question {
            class: Some((*name).into()),
            p99_ns,
            host: host.clone(),
            ..first.clone()
        };
        Some(hosts.iter().map(on).collect::<Vec<_>>())
    };
    classes.iter().filter_map(of).flatten().collect()
}

fn class<'c>(
    asked: Option<&str>,
    classes: &[(&'c str, Option<u64>)],
) -> anyhow::Result<Option<(&'c str, Option<u64>)>> {
    let Some(asked) = asked else { return Ok(None) };
    let names: Vec<&str> = classes.iter().map(|(name, _)| *name).collect();
    let known = match names.is_empty() {
        true => "no request of the run has a name".to_string(),
        false => format!("allowed are {}", names.join(", ")),
    };
    let found = classes.iter().find(|(name, _)| *name == asked);
    let found = found.with_context(|| format!("--class: unknown class `{asked}`: {known}"))?;
    Ok(Some(*found))
}

/// The types of hosts that a file lists, or the one that flags and the measured machine say.
fn hosts_of(args: &HostsArgs, run: &Run) -> anyhow::Result<Vec<HostType>> {
    if let Some(path) = &args.hosts {
        let name = path.display().to_string();
        let text = crate::config::read_text(path).map_err(|e| anyhow!("--hosts: {name}: {e}"))?;
        return hosts::parse(&text, &name).context("--hosts");
    }
    let size = |t: &str| above_zero(parse_size(t)?);
    let cpus = |t: &str| match u32::try_from(parse_count(t)?) {
        Ok(n @ 1..) => Ok(n),
        _ => Err(anyhow!("a host has from 1 to 4,294,967,295 CPUs")),
    };
    let machine = run.plan.machine();
    let here = machine.cpus_online.len() as u32;
    let cpus = read("cpus", args.cpus.as_ref(), cpus)?
        .or((here > 0).then_some(here))
        .context("--cpus: the run does not say; name a host's CPUs")?;
    let memory_bytes = read("memory", args.memory.as_ref(), size)?
        .or(machine.memory_bytes)
        .context("--memory: the run does not say; name a host's memory")?;
    Ok(vec![HostType::plain(cpus, memory_bytes)])
}

fn above_zero(n: u64) -> anyhow::Result<u64> {
    if n > 0 { Ok(n) } else { Err(Error::msg("must be above zero")) }
}

/// A share above zero, and of all at most.
fn part(text: &str) -> anyhow::Result<f64> {
    match parse_share(text)? {
        share if share > 0.0 && share <= 1.0 => Ok(share),
        _ => bail!("`{text}` is not above 0% and at most 100%"),
    }
}

/// A share above zero, and below all: an objective of 100 % leaves no budget.
fn below_all(text: &str) -> anyhow::Result<f64> {
    match part(text)? {
        share if share < 1.0 => Ok(share),
        _ => bail!("`{text}` leaves no error budget: write a share below 100%, such as 99.9%"),
    }
}

fn months(text: &str) -> anyhow::Result<f64> {
    match text.trim().parse() {
        Ok(months) if (0.0..=600.0).contains(&months) => Ok(months),
        _ => bail!("`{text}` is not a number of months from 0 to 600, such as 6 or 1.5"),
    }
}

fn spare(text: &str) -> anyhow::Result<u32> {
    u32::try_from(parse_count(text)?)
        .map_err(|_| anyhow!("`{text}` is not from 0 to 4,294,967,295 hosts"))
}

/// Growth per year: `30%`, `0.3` or `2%/month`.
fn growth(text: &str) -> anyhow::Result<f64> {
    let (number, is_monthly) = match text.trim() {
        t if t.ends_with("/month") => (t.trim_end_matches("/month"), true),
        t => (t.trim_end_matches("/year"), false),
    };
    let (number, by) = match number.trim().strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (number, 1.0),
    };
    let value = number.trim().parse::<f64>().map(|v| v / by).unwrap_or(f64::NAN);
    let yearly = if is_monthly { (1.0 + value).powi(12) - 1.0 } else { value };
    if value > -1.0 && yearly <= 100.0 {
        return Ok(yearly);
    }
    bail!(
        "`{text}` is not a growth: write 30%, 0.3 or 2%/month, above -100% and at most 10000% per year"
    )
}
