//! `duel capacity`: from the cells of a run to hosts and money.

mod next;
mod prove;

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::cli::{CapacityArgs, HostsArgs};
use crate::limits::{Ceiling, Limits, TargetKind, Unit};
use crate::plan::{Cell, Engine, classes};
use crate::report::capacity::hosts::{self, HostType};
use crate::report::capacity::{Plan, Question, measured_rate, plan};
use crate::report::markdown;
use crate::results::store::{Run, RunDir};
use crate::units::format_count;

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
    let asked = questions(&args.rate, &args.hosts, &run)
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
    all.retain(|ceiling| ceiling.unit != Unit::Ports);
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

/// Refuses a list of values that holds one twice.
fn each_once(flag: &str, values: &[f64]) -> anyhow::Result<()> {
    let twice = |at: usize| values[..at].contains(&values[at]);
    ensure!(!(0..values.len()).any(twice), "--{flag}: a value is given twice: name each once");
    Ok(())
}

/// The questions of the flags, the plan's first. Without a rate it is the highest that the run
/// measured within the bound; `None` where there is none.
pub(super) fn questions(
    rates: &[f64],
    args: &HostsArgs,
    run: &Run,
) -> anyhow::Result<Option<Vec<Question>>> {
    each_once("rate", rates)?;
    each_once("growth", &args.growth)?;
    each_once("cpu-target", &args.cpu_target)?;
    let sweep = run.plan.sweep();
    let slo = sweep.as_ref().and_then(|sweep| sweep.slo.clone()).unwrap_or_default();
    let classes = sweep.as_ref().map_or(vec![], |sweep| classes(&sweep.plan.mix));
    let class = class(args.class.as_deref(), &classes)?;
    let p99_ns = args.p99.or(class.and_then(|(_, own)| own)).or(slo.p99_ns);
    let class = class.map(|(name, _)| name.to_string());
    let availability = args.availability.or(slo.error_rate.map(|lost| 1.0 - lost));
    let is_service = run.records.iter().any(|record| record.cell.tests_server());
    if args.connections.is_some() && !is_service {
        bail!(
            "--connections is for runs that test a server (server_engines); this one tests the client, \
             whose connections follow from the rate"
        );
    }
    let hosts = hosts_of(args, run)?;
    let measured = match rates.is_empty() {
        true => measured_rate(&run.records, class.as_deref(), p99_ns),
        false => None,
    };
    let rates: Vec<f64> = rates.iter().copied().chain(measured).collect();
    let each = [rates.len(), args.growth.len(), args.cpu_target.len(), hosts.len()];
    if each.iter().product::<usize>() > MOST_QUESTIONS {
        let most = format_count(MOST_QUESTIONS as u64);
        bail!("--rate, --growth, --cpu-target and --hosts make more than {most} plans");
    }
    let from = Some(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date());
    let mut questions = Vec::new();
    for &rate_per_s in &rates {
        for &growth_per_year in &args.growth {
            for &cpu_target in &args.cpu_target {
                questions.extend(hosts.iter().map(|host| Question {
                    rate_per_s,
                    class: class.clone(),
                    p99_ns,
                    availability,
                    latency_ns: args.latency,
                    connections: args.connections.map(|n| n as f64),
                    host: host.clone(),
                    cpu_target,
                    memory_target: args.memory_target,
                    growth_per_year,
                    months: args.months,
                    from,
                    spare: args.spare,
                }));
            }
        }
    }
    let Some(first) = questions.first().filter(|_| class.is_none()) else {
        return Ok(Some(questions).filter(|all| !all.is_empty()));
    };
    let by_class = by_class(first, &classes, (args.p99, p99_ns), &hosts);
    questions.extend(by_class);
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
    let machine = run.plan.machine();
    let here = machine.cpus_online.len() as u32;
    let cpus = (args.cpus)
        .or((here > 0).then_some(here))
        .context("--cpus: the run does not say; name a host's CPUs")?;
    let memory_bytes = (args.memory)
        .or(machine.memory_bytes)
        .context("--memory: the run does not say; name a host's memory")?;
    Ok(vec![HostType::plain(cpus, memory_bytes)])
}
