//! The mirror → a [`Sweep`]: bounds, what goes with what, and defaults.

mod axes;
mod expect;
mod request;
mod search;
mod server;
mod shape;
mod steps;
mod target;
mod values;

use std::path::Path;

use axes::{allocators, stack_sizes, uring_batch};

use super::keys::{self, File, Plan};
use super::node::{Fault, Place, shown};
use super::read::{At, Count, Key, Keyed as _, Offered, Several, duration_text, place_of};
use crate::plan::cell::Axes;
use crate::plan::search::bounds;
use crate::plan::sweep::{ExpectFailed, Machine, MemoryTrials, Precision, Slo, Sweep};
use crate::plan::target::{SweptTarget, Target};
use crate::plan::{Arrivals, Axis, Engine, Extent, TrialPlan};
use crate::stats::precision::FEWEST_BLOCKS;
use crate::units::{SECOND_NS, duration_literal, format_count, format_ns};

/// Most trials of a sweep: beyond it the grid is a typing error.
const MAX_TRIALS: u64 = 1_000_000;

const MAX_VALUES: usize = 1_000;

fn fault<T>(at: &At<T>, message: impl std::fmt::Display) -> Fault {
    Fault::new(&at.place, message)
}

/// A whole number whose bounds, which `keys` declares, lie inside `u32`.
fn number(at: &Count) -> u32 {
    u32::try_from(at.0).unwrap_or(u32::MAX)
}

/// What is found, or nothing and a note of what is wrong.
fn note<T>(wrong: &mut Vec<Fault>, found: Result<T, impl Into<Vec<Fault>>>) -> Option<T> {
    found.map_err(|faults| wrong.extend(faults.into())).ok()
}

/// What does not depend on each other: all that is wrong with any of it is told at once.
macro_rules! together {
    ($($name:ident = $found:expr;)*) => {
        let mut wrong = Vec::new();
        $(let $name = $crate::config::resolve::note(&mut wrong, $found);)*
        let ($(Some($name),)*) = ($($name,)*) else { return Err(wrong) };
    };
}
use together;

/// The same of the members of a list.
fn each<T, E: Into<Vec<Fault>>>(
    found: impl Iterator<Item = Result<T, E>>,
) -> Result<Vec<T>, Vec<Fault>> {
    let mut wrong = Vec::new();
    let found: Vec<T> = found.filter_map(|one| note(&mut wrong, one)).collect();
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// The values of an axis, none twice.
fn axis<T, U: PartialEq>(
    list: &At<Several<T>>,
    convert: impl Fn(&At<T>) -> Result<U, Fault>,
) -> Result<Vec<U>, Vec<Fault>> {
    if list.len() > MAX_VALUES {
        let allowed = format_count(MAX_VALUES as u64);
        return Err(fault(list, format!("the list is too long: at most {allowed} values")).into());
    }
    let values = each(list.value.iter().map(convert))?;
    let twice = (0..values.len()).filter(|at| values[..*at].contains(&values[*at]));
    let twice = twice.map(|at| fault(&list.value[at], "this value is given twice: name each once"));
    let twice: Vec<Fault> = twice.collect();
    if twice.is_empty() { Ok(values) } else { Err(twice) }
}

fn axis_or<T, U: PartialEq>(
    list: &Key<Several<T>>,
    default: Vec<U>,
    convert: impl Fn(&At<T>) -> Result<U, Fault>,
) -> Result<Vec<U>, Vec<Fault>> {
    list.as_ref().map_or(Ok(default), |list| axis(list, convert))
}

pub(super) fn resolve(file: File, file_name: &str, base_dir: &Path) -> Result<Sweep, Vec<Fault>> {
    together! {
        name = name(&file.name, file_name);
        resolved = target::resolve(&file, base_dir);
        data = values::resolve(&file.plan, base_dir);
        plain = plain_axes(&file.sweep);
        expect_failed = expect_failed(&file);
    }
    let arrivals = file.plan.arrivals.value;
    let traced = arrivals == Arrivals::Trace;
    let mix_of =
        |path: &At<String>| request::mix(&file.plan.request, path, base_dir, traced, &data);
    let (mut targets, mut first) = (Vec::new(), None);
    for (name, target::ResolvedTarget { target, host, url_path }) in resolved {
        let mix = mix_of(&url_path)?;
        let (_, _, common) = first.get_or_insert((target.clone(), host.clone(), mix.clone()));
        let mix = if mix == *common { Vec::new() } else { mix };
        targets.push(SweptTarget { name, target, host, mix });
    }
    let Some((target, host, mix)) = first else { unreachable!("there is a target") };
    if file.sweep.target.is_none() {
        targets.clear();
    }
    values::check(&file.plan, &data)?;
    let shape = shape::resolve(&file.plan, arrivals, &mix, base_dir)?;
    together! {
        plan = plan(&file.plan, arrivals, host, mix, shape, data);
        subject = server::resolve(&file, &target, base_dir);
        machine = machine(&file, &target);
    }
    let (setting, side) = (subject.setting.clone(), subject.side);
    let tests_server = subject.under_test().is_some();
    let plain = Axes { targets, ..plain };
    let axes = axes(&file, arrivals, &target, plain, &plan, subject)?;
    let slo = slo(&file);
    let search = search::resolve(&file, &plan, &bounds(slo.as_ref(), &plan.mix))?;
    let (trials, precision) = match search {
        Some(search) if axes.knee_shares.is_empty() => (search.max_trials, None),
        _ => repetitions(&file)?,
    };
    let key = if tests_server { &None } else { &file.sweep.baseline };
    let baseline = baseline(key, ("engines", &axes.engines), Engine::name, Engine::BASELINE)?;
    let mut sweep = Sweep {
        name,
        target,
        plan,
        axes,
        trials,
        precision,
        baseline,
        equal_within: file.sweep.equal_within.0,
        aa: file.sweep.aa.value,
        idle: file.sweep.idle.value,
        syscalls: file.sweep.syscalls.value,
        memory: file.sweep.memory.0,
        noise_repeats: number(&file.sweep.noise_repeats),
        expect_failed,
        expect: Vec::new(),
        machine,
        slo,
        subject: side,
        server: setting,
        search,
    };
    bounded(&file, &sweep)?;
    ends(&file, &sweep)?;
    budget(&file, &mut sweep)?;
    sweep.expect = expect::expectations(&file.expect, &sweep)?;
    Ok(sweep)
}

/// Blocks at most, and what ends them before; without a word about either, precision.
fn repetitions(file: &File) -> Result<(u32, Option<Precision>), Fault> {
    let sweep = &file.sweep;
    let until = [sweep.precision.given_at(), sweep.budget.given_at(), sweep.max_blocks.given_at()];
    match (&sweep.trials, until.into_iter().flatten().next()) {
        (Some(_), Some(place)) => Err(Fault::new(
            place,
            "not beside `sweep.trials`, which fixes the number of blocks: leave out one of them",
        )),
        (Some(trials), None) => Ok((number(trials), None)),
        (None, _) => {
            let precision = Precision { half_width: sweep.precision.0, budget_ns: sweep.budget.0 };
            Ok((number(&sweep.max_blocks), Some(precision)))
        }
    }
}

/// Refuses a budget that holds no block; where none is given, it holds the fewest that may do.
fn budget(file: &File, sweep: &mut Sweep) -> Result<(), Fault> {
    let cells = sweep.cells().len() as u64 * sweep.axes.knee_shares.len().max(1) as u64;
    let (Some(trial_ns), Some(precision)) = (sweep.trial_ns(), &mut sweep.precision) else {
        return Ok(());
    };
    let block_ns = trial_ns.saturating_mul(cells);
    match file.sweep.budget.given() {
        Some(at) if precision.budget_ns < block_ns => {
            let block = format_ns(block_ns as f64);
            let budget = duration_literal(precision.budget_ns);
            Err(fault(at, format!("`{budget}` is shorter than one block, which takes {block}")))
        }
        Some(_) => Ok(()),
        None => {
            let fewest = block_ns.saturating_mul(u64::from(FEWEST_BLOCKS));
            // Half again for what the estimate leaves out.
            precision.budget_ns = precision.budget_ns.max(fewest.saturating_add(fewest / 2));
            Ok(())
        }
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

/// The name is part of a path.
fn name(key: &Key<String>, file_name: &str) -> Result<String, Fault> {
    let Some(at) = key else {
        let stem = Path::new(file_name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        let name: String =
            stem.chars().take(64).map(|c| if allowed(c) { c } else { '-' }).collect();
        let name = name.trim_start_matches(['.', '-']);
        return Ok(if name.is_empty() { "sweep".into() } else { name.into() });
    };
    checked_name(at)
}

fn checked_name(at: &At<String>) -> Result<String, Fault> {
    let name = &at.value;
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= 64 && name.chars().all(allowed) {
        return Ok(name.clone());
    }
    let rule = "use up to 64 of a-z A-Z 0-9 - _ . and begin with a letter or digit";
    Err(fault(at, format!("`{}` is not a name: {rule}", shown(name))))
}

fn plan(
    file: &Plan,
    arrivals: Arrivals,
    host: String,
    mix: Vec<crate::plan::RequestTemplate>,
    shape: shape::Shape,
    data: values::Resolved,
) -> Result<TrialPlan, Vec<Fault>> {
    let extent = match (&file.requests, file.duration.given()) {
        (Some(_), Some(at)) => {
            return Err(fault(at, "give `plan.requests` or `plan.duration`, not both").into());
        }
        (Some(at), None) => Extent::Requests(at.0),
        (None, _) => Extent::DurationNs(file.duration.0),
    };
    // A 1xx is never the last answer to a request.
    let expect_status = axis_or(&file.expect_status, Vec::new(), |at| Ok(number(at) as u16))?;
    let mut plan = TrialPlan {
        arrivals,
        offered_per_s: None,
        extent,
        warmup_ns: file.warmup.0,
        timeout_ns: file.timeout.0,
        seed: file.seed.0,
        pacer: file.pacer.value,
        keep_alive: file.keep_alive.value,
        expect_status,
        host,
        mix,
        values: data.values.clone(),
        heartbeat: file.heartbeat.value,
        ..TrialPlan::default()
    };
    if let Some(extent) = shape.extent(file, &plan)? {
        plan.extent = extent;
    }
    shape.apply(&mut plan, &file.trace)?;
    values::bound(file, &data, &mut plan)?;
    Ok(plan)
}

/// The axes that depend on no other key.
fn plain_axes(sweep: &keys::Sweep) -> Result<Axes, Vec<Fault>> {
    together! {
        codecs = axis(&sweep.codecs, |at| Ok(at.value));
        engines = axis_or(&sweep.engines, Engine::by_default(), |at| Ok(at.value));
        lanes = axis(&sweep.lanes, |at| Ok(number(at)));
        processes = axis(&sweep.processes, |at| Ok(number(at)));
        cpus = axis(&sweep.cpus, |at| Ok(number(at)));
        bodies = axis_or(&sweep.bodies, Vec::new(), |at| Ok(at.0));
        rayon_threads = axis(&sweep.rayon_threads, |at| Ok(at.value));
        allocators = allocators(&sweep.allocators);
        uring_receive = axis_or(&sweep.uring_receive, Vec::new(), |at| Ok(at.value));
    }
    Ok(Axes {
        engines,
        codecs,
        lanes,
        processes,
        cpus,
        bodies,
        rayon_threads,
        allocators,
        uring_receive,
        ..Axes::default()
    })
}

fn axes(
    file: &File,
    arrivals: Arrivals,
    target: &Target,
    mut plain: Axes,
    plan: &TrialPlan,
    subject: server::Subject,
) -> Result<Axes, Vec<Fault>> {
    let sweep = &file.sweep;
    let tls = target.is_tls()
        || plain.targets.iter().any(|swept| swept.target.is_tls())
        || subject.setting.as_ref().is_some_and(|server| server.tls);
    if let Some(at) = &sweep.bodies {
        if matches!(target, Target::External { .. }) {
            return Err(fault(at, "only the embedded target's body can be swept: remove it").into());
        }
        if file.target.body.given().is_some() {
            return Err(fault(at, "give `sweep.bodies` or `target.body`, not both").into());
        }
    }
    // Against a server under test one client stands, which is no part of the question.
    if subject.under_test().is_some() {
        if sweep.engines.is_none() {
            plain.engines = vec![server::CLIENT.0];
        }
        if sweep.codecs.given().is_none() {
            plain.codecs = vec![server::CLIENT.1];
        }
    }
    together! {
        rates = rates(file, arrivals);
        stack_sizes_bytes = stack_sizes(&sweep.stack_sizes, tls);
        offload = steps::offload(&sweep.offload, plan, subject.under_test());
        fan_out = steps::fan_out(&sweep.fan_out, subject.setting.as_ref());
        uring_batch = uring_batch(sweep, &plain.engines, arrivals);
        uring_linger_ns = axis(&sweep.uring_linger, |at| Ok(at.0));
    }
    let (rates_per_s, knee_shares) = rates;
    Ok(Axes {
        rates_per_s,
        knee_shares,
        stack_sizes_bytes,
        offload,
        fan_out,
        // A wait for several completions without an end would not end where fewer come.
        uring_linger_ns: if uring_batch.is_empty() { vec![] } else { uring_linger_ns },
        uring_batch,
        server_engines: subject.engines,
        server_codecs: subject.codecs,
        ..plain
    })
}

/// Rates as they are given, and shares of the knees that a search finds first.
fn rates(file: &File, arrivals: Arrivals) -> Result<(Vec<f64>, Vec<f64>), Vec<Fault>> {
    let all = axis_or(&file.sweep.rates, Vec::new(), |at| match (at.value, &file.search) {
        (Offered::OfKnee(_), None) => {
            let rule = "add the tables [slo] and [search], or name requests per second";
            Err(fault(at, format!("a share is one of the knee that a search finds: {rule}")))
        }
        (Offered::PerS(_), Some(_)) => {
            let rule = "name shares of what it finds, such as \"80%\", or remove the rates";
            let why = "a search chooses its rates itself";
            Err(fault(at, format!("not beside [search]: {why}: {rule}")))
        }
        (offered, _) => Ok(offered),
    })?;
    let shaped = arrivals == Arrivals::Trace || file.plan.stages.is_some();
    match (&file.sweep.rates, file.plan.arrivals.given()) {
        (Some(at), _) if shaped => {
            return Err(
                fault(at, "stages and traces have their own rates: remove them here").into()
            );
        }
        (Some(at), _) if !arrivals.is_open() => {
            let rule = "set plan.arrivals to \"constant\" or \"poisson\", or remove the rates";
            return Err(fault(at, format!("a closed loop has no rates: {rule}")).into());
        }
        (None, Some(at)) if arrivals.is_open() && !shaped && file.search.is_none() => {
            let rule = "such as rates = [500, 1000] under [sweep]";
            return Err(fault(at, format!("an open loop needs `sweep.rates`, {rule}")).into());
        }
        _ => {}
    }
    let (mut per_s, mut shares) = (Vec::new(), Vec::new());
    for offered in all {
        match offered {
            Offered::PerS(rate) => per_s.push(rate),
            Offered::OfKnee(share) => shares.push(share),
        }
    }
    Ok((per_s, shares))
}

/// The baseline among engines of either side: as named, or else the usual one, or else the first.
fn baseline<E: Copy + PartialEq>(
    key: &Key<String>,
    (axis, engines): (&str, &[E]),
    name: fn(E) -> &'static str,
    usual: E,
) -> Result<E, Fault> {
    let Some(at) = key else {
        let first = engines.first().copied().unwrap_or(usual);
        return Ok(if engines.contains(&usual) { usual } else { first });
    };
    engines.iter().copied().find(|engine| name(*engine) == at.value).ok_or_else(|| {
        let names: Vec<_> = engines.iter().map(|engine| name(*engine)).collect();
        let rule = format!("allowed are {}", names.join(", "));
        fault(at, format!("`{}` is not among `sweep.{axis}`: {rule}", shown(at)))
    })
}

fn expect_failed(file: &File) -> Result<Vec<ExpectFailed>, Vec<Fault>> {
    let resolve = |entry: &At<super::keys::ExpectFailed>| {
        Ok(ExpectFailed {
            engine: entry.engine.value,
            lanes: entry.lanes.as_ref().map(|at| number(at)),
            limit: match &entry.limit {
                Some(at) if at.is_empty() => {
                    return Err(fault(at, "is empty: name the limit, or leave the key out"));
                }
                limit => limit.as_ref().map(|at| at.value.clone()),
            },
        })
    };
    each(file.sweep.expect_failed.iter().flat_map(|list| &list.value).map(resolve))
}

fn machine(file: &File, target: &Target) -> Result<Machine, Vec<Fault>> {
    let cpus = |list: &Key<Several<Count>>| {
        list.as_ref().map(|list| axis(list, |at| Ok(number(at)))).transpose()
    };
    together! {
        worker_cpus = cpus(&file.machine.worker_cpus);
        target_cpus = cpus(&file.machine.target_cpus);
    }
    if let (Some(at), Target::External { .. }) = (&file.machine.target_cpus, target) {
        let why = "only the embedded target can be placed: remove it beside `url`";
        return Err(fault(at, why).into());
    }
    if let (Some(at), Some(cpus)) = (&file.machine.worker_cpus, &worker_cpus) {
        let most = file.sweep.cpus.iter().map(|cpus| cpus.0).max().unwrap_or(1);
        if most > cpus.len() as u64 {
            let named = cpus.len();
            return Err(fault(at, format!("names {named} but `sweep.cpus` asks for {most}")).into());
        }
    }
    Ok(Machine { worker_cpus, target_cpus })
}

fn slo(file: &File) -> Option<Slo> {
    let slo = Slo {
        p50_ns: file.slo.p50.as_ref().map(|at| at.0),
        p90_ns: file.slo.p90.as_ref().map(|at| at.0),
        p99_ns: file.slo.p99.as_ref().map(|at| at.0),
        p99_9_ns: file.slo.p99_9.as_ref().map(|at| at.0),
        error_rate: file.slo.error_rate.as_ref().map(|at| at.0),
    };
    (slo != Slo::default()).then_some(slo)
}

/// Refuses a trial that is longer than any time a config may name.
fn ends(file: &File, sweep: &Sweep) -> Result<(), Fault> {
    let Some(window) = sweep.window_ns().filter(|ns| *ns as f64 > keys::LONGEST_NS) else {
        return Ok(());
    };
    let plan = &file.plan;
    let place = [place_of(&plan.requests), place_of(&plan.trace), place_of(&plan.stages)];
    let place = place.into_iter().flatten().next().cloned().unwrap_or_else(Place::whole);
    let (hours, most) =
        (format_count(window / (3600 * SECOND_NS)), duration_text(keys::LONGEST_NS));
    Err(Fault::new(&place, format!("one trial would last {hours}h: at most {most}")))
}

/// Refuses grids whose size is a typing error, before anything is made of them.
fn bounded(file: &File, sweep: &Sweep) -> Result<(), Fault> {
    let axes = &sweep.axes;
    let most = |values: &[u32]| u64::from(values.iter().copied().max().unwrap_or(1));
    if most(&axes.lanes) * most(&axes.processes) > u64::from(u32::MAX) {
        let most = format_count(u32::MAX.into());
        return Err(fault(&file.sweep.lanes, format!("lanes × processes is beyond {most}")));
    }
    let kinds = 1
        + usize::from(sweep.aa)
        + usize::from(sweep.idle)
        + usize::from(sweep.syscalls)
        + usize::from(sweep.memory == MemoryTrials::Also);
    let trials = Axis::all()
        .map(|axis| axis.count(axes))
        .chain([kinds, axes.knee_shares.len().max(1)])
        .fold(u64::from(sweep.trials), |product, n| product.saturating_mul(n as u64));
    if trials > MAX_TRIALS {
        let sweep = &file.sweep;
        let longest = ["trials", "lanes", "rates", "bodies", "processes", "cpus"];
        let given = longest.iter().find_map(|key| sweep.given().find(|(name, _)| name == key));
        let place = given.map_or(&sweep.max_blocks.place, |(_, place)| place);
        let (found, most) = (format_count(trials), format_count(MAX_TRIALS));
        return Err(Fault::new(
            place,
            format!("the sweep would hold {found} trials: at most {most}"),
        ));
    }
    Ok(())
}
