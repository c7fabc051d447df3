//! The mirror → a [`Sweep`]: bounds, what goes with what, and defaults.

mod expect;
mod request;
mod search;
mod shape;
mod steps;
mod target;
mod values;

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;

use super::explain::shown;
use super::file::{Count, Duration, File, Key, List, Plan, Share, Size};
use crate::plan::allocator::Allocator;
use crate::plan::cell::{Axes, RayonThreads};
use crate::plan::sweep::{ExpectFailed, Machine, MemoryTrials, Slo, Sweep, Target};
use crate::plan::{Arrivals, Axis, Codec, Engine, Extent, Pacer, TrialPlan};
use crate::units::{SECOND_NS, duration_literal, format_count, format_share, size_literal};

/// Longest duration: sums of a few of them stay far inside `u64`.
const MAX_DURATION_NS: u64 = 30 * 24 * 3600 * SECOND_NS;

/// Largest response body or stack.
const MAX_SIZE_BYTES: u64 = 1 << 30;

/// Smallest stack that the C library gives a thread (`PTHREAD_STACK_MIN`).
const MIN_STACK_BYTES: u64 = 16 << 10;

/// Smallest stack on which a TLS handshake fits, certificates of a few links included: 75 KiB were
/// seen in a task engine's thread of a debug build.
const MIN_TLS_STACK_BYTES: u64 = 96 << 10;

/// Stack of an engine's threads where none is named.
const STACK_BYTES: u64 = 64 << 10;

/// The same where the target speaks TLS.
const TLS_STACK_BYTES: u64 = 128 << 10;

/// Most trials of a sweep: beyond it the grid is a typing error.
const MAX_TRIALS: u64 = 1_000_000;

/// Most repeats of a noisy trial: a machine that is never quiet needs another hour, not more tries.
const MAX_NOISE_REPEATS: u64 = 10;

/// Most values of one axis.
const MAX_VALUES: usize = 1_000;

/// Most worker or target processes of a trial.
const MAX_PROCESSES: u64 = 4_096;

/// Rates that a schedule in whole nanoseconds can hold: one in 11 days, one a nanosecond.
const RATES_PER_S: RangeInclusive<f64> = 1e-6..=1e9;

/// Something that is not allowed, and the span of the key or value.
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

/// A fault at a value.
fn fault<T>(at: &Spanned<T>, message: impl Into<String>) -> Fault {
    Fault { span: at.span(), message: message.into() }
}

/// Checks a whole number against its bounds.
fn whole(at: &Spanned<Count>, allowed: RangeInclusive<u64>) -> Result<u64, Fault> {
    let found = at.get_ref().0;
    if allowed.contains(&found) {
        return Ok(found);
    }
    let (low, high) = (allowed.start(), format_count(*allowed.end()));
    Err(fault(at, format!("`{found}` is out of range: allowed are {low} to {high}")))
}

/// A whole number that fits `u32`, from 1 up unless said otherwise.
fn whole_u32(at: &Spanned<Count>, allowed: RangeInclusive<u64>) -> Result<u32, Fault> {
    whole(at, allowed).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

const POSITIVE_U32: RangeInclusive<u64> = 1..=u32::MAX as u64;

fn duration(at: &Spanned<Duration>, least_ns: u64) -> Result<u64, Fault> {
    let found = at.get_ref().0;
    if (least_ns..=MAX_DURATION_NS).contains(&found) {
        return Ok(found);
    }
    let allowed = if found < least_ns { "above zero" } else { "at most 720h" };
    Err(fault(at, format!("`{}` is out of range: must be {allowed}", duration_literal(found))))
}

fn duration_or(key: &Key<Duration>, least_ns: u64, default_ns: u64) -> Result<u64, Fault> {
    key.as_ref().map_or(Ok(default_ns), |at| duration(at, least_ns))
}

fn size(at: &Spanned<Size>, allowed: RangeInclusive<u64>) -> Result<u64, Fault> {
    let found = at.get_ref().0;
    if allowed.contains(&found) {
        return Ok(found);
    }
    let (low, high) = (size_literal(*allowed.start()), size_literal(*allowed.end()));
    let found = size_literal(found);
    Err(fault(at, format!("`{found}` is out of range: allowed are {low} to {high}")))
}

fn share(key: &Key<f64>) -> Result<Option<f64>, Fault> {
    let Some(at) = key else { return Ok(None) };
    if (0.0..=1.0).contains(at.get_ref()) {
        return Ok(Some(*at.get_ref()));
    }
    Err(fault(at, format!("`{}` is not a share: allowed are 0 to 1", at.get_ref())))
}

/// How far a ratio may lie from 1.
fn margin(at: &Spanned<Share>) -> Result<f64, Fault> {
    let found = at.get_ref().0;
    if (0.001..=1.0).contains(&found) {
        return Ok(found);
    }
    Err(fault(at, format!("`{}` is out of range: allowed are 0.1 % to 100 %", format_share(found))))
}

/// The values of an axis: at least one, none twice.
fn axis<T, U: PartialEq>(
    list: &List<T>,
    default: Vec<U>,
    convert: impl Fn(&Spanned<T>) -> Result<U, Fault>,
) -> Result<Vec<U>, Fault> {
    let Some(list) = list else { return Ok(default) };
    let elements = list.get_ref();
    if elements.is_empty() {
        return Err(fault(list, "the list is empty: name at least one value"));
    }
    if elements.len() > MAX_VALUES {
        let allowed = format_count(MAX_VALUES as u64);
        return Err(fault(list, format!("the list is too long: at most {allowed} values")));
    }
    let mut values = Vec::with_capacity(elements.len());
    for element in elements {
        let value = convert(element)?;
        if values.contains(&value) {
            return Err(fault(element, "this value stands twice: name each once"));
        }
        values.push(value);
    }
    Ok(values)
}

/// Resolves a mirror; see [`super::parse`].
pub(super) fn resolve(file: File, file_name: &str, base_dir: &Path) -> Result<Sweep, Fault> {
    let name = name(&file.name, file_name)?;
    let target::Resolved { target, host, default_path } = target::resolve(&file, base_dir)?;
    let arrivals = file.plan.arrivals.as_ref().map_or(Arrivals::Closed, |at| *at.get_ref());
    let data = values::resolve(&file.plan, base_dir)?;
    let mix = request::mix(&file.plan.request, default_path, base_dir, arrivals, &data)?;
    values::check(&file.plan, &data, arrivals == Arrivals::Trace)?;
    let shape = shape::resolve(&file.plan, arrivals, &mix, base_dir)?;
    let plan = plan(&file.plan, arrivals, host, mix, shape, data)?;
    let axes = axes(&file, arrivals, target.is_tls(), &plan)?;
    let trials = match &file.sweep.trials {
        Some(at) => whole_u32(at, 1..=MAX_TRIALS)?,
        None => 10,
    };
    let noise_repeats = match &file.sweep.noise_repeats {
        Some(at) => whole_u32(at, 0..=MAX_NOISE_REPEATS)?,
        None => 2,
    };
    let slo = slo(&file)?;
    let search = search::resolve(&file, &plan, slo.as_ref())?;
    let trials = search.map_or(trials, |search| search.max_trials);
    let baseline = baseline(&file.sweep.baseline, &axes.engines)?;
    let equal_within = match &file.sweep.equal_within {
        Some(at) => margin(at)?,
        None => crate::stats::MARGIN,
    };
    let expect_failed = expect_failed(&file)?;
    let machine = machine(&file, &target)?;
    let mut sweep = Sweep {
        name,
        target,
        plan,
        axes,
        trials,
        baseline,
        equal_within,
        aa: file.sweep.aa,
        idle: file.sweep.idle,
        syscalls: file.sweep.syscalls,
        memory: file.sweep.memory.as_ref().map_or(MemoryTrials::None, |at| at.get_ref().0),
        noise_repeats,
        expect_failed,
        expect: Vec::new(),
        machine,
        slo,
        search,
    };
    bounded(&file, &sweep)?;
    sweep.expect = expect::expectations(&file.expect, &sweep)?;
    Ok(sweep)
}

/// The name is part of a path, so only letters that need no quoting there are allowed.
fn name(key: &Key<String>, file_name: &str) -> Result<String, Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let Some(at) = key else {
        let stem = Path::new(file_name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        let name: String =
            stem.chars().take(64).map(|c| if allowed(c) { c } else { '-' }).collect();
        let name = name.trim_start_matches(['.', '-']);
        return Ok(if name.is_empty() { "sweep".into() } else { name.into() });
    };
    let name = at.get_ref();
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
) -> Result<TrialPlan, Fault> {
    let extent = match (&file.requests, &file.duration) {
        (Some(_), Some(at)) => {
            return Err(fault(at, "give `plan.requests` or `plan.duration`, not both"));
        }
        (Some(at), None) => Extent::Requests(whole(at, 1..=1_000_000_000_000)?),
        (None, Some(at)) => Extent::DurationNs(duration(at, 1)?),
        (None, None) => Extent::DurationNs(10 * SECOND_NS),
    };
    // A 1xx is never the last answer to a request.
    let expect_status = axis(&file.expect_status, Vec::new(), |at| {
        whole(at, 200..=599).map(|status| u16::try_from(status).unwrap_or(u16::MAX))
    })?;
    let mut plan = TrialPlan {
        arrivals,
        offered_per_s: None,
        extent,
        warmup_ns: duration_or(&file.warmup, 0, 0)?,
        timeout_ns: duration_or(&file.timeout, 1, 5 * SECOND_NS)?,
        seed: file.seed.as_ref().map_or(1, |at| at.get_ref().0),
        pacer: file.pacer.as_ref().map_or(Pacer::Precise, |at| *at.get_ref()),
        keep_alive: file.keep_alive.as_ref().is_none_or(|at| *at.get_ref()),
        expect_status,
        host,
        mix,
        values: data.values.clone(),
        heartbeat: file.heartbeat,
        ..TrialPlan::default()
    };
    if let Some(extent) = shape.extent(file, &plan)? {
        plan.extent = extent;
    }
    shape.apply(&mut plan, &file.trace)?;
    values::bound(file, &data, &mut plan)?;
    Ok(plan)
}

fn axes(file: &File, arrivals: Arrivals, tls: bool, plan: &TrialPlan) -> Result<Axes, Fault> {
    let sweep = &file.sweep;
    let rates_per_s = axis(&sweep.rates, Vec::new(), |at| {
        let rate = at.get_ref().0;
        if RATES_PER_S.contains(&rate) {
            return Ok(rate);
        }
        Err(fault(at, format!("`{rate}` is out of range: allowed are 0.000001 to 1G")))
    })?;
    let shaped = arrivals == Arrivals::Trace || file.plan.stages.is_some();
    match (&sweep.rates, &file.plan.arrivals) {
        (Some(at), _) if shaped => {
            return Err(fault(at, "stages and traces have their own rates: remove them here"));
        }
        (Some(at), _) if !arrivals.is_open() => {
            let rule = "set plan.arrivals to \"constant\" or \"poisson\", or remove the rates";
            return Err(fault(at, format!("a closed loop has no rates: {rule}")));
        }
        (None, Some(at)) if arrivals.is_open() && !shaped && file.search.is_none() => {
            let rule = "such as rates = [500, 1000] under [sweep]";
            return Err(fault(at, format!("an open loop needs `sweep.rates`, {rule}")));
        }
        _ => {}
    }
    let bodies = axis(&sweep.bodies, Vec::new(), |at| size(at, 0..=MAX_SIZE_BYTES))?;
    if let Some(at) = &sweep.bodies {
        if file.target.url.is_some() {
            return Err(fault(at, "only the embedded target's body can be swept: remove it"));
        }
        if file.target.body.is_some() {
            return Err(fault(at, "give `sweep.bodies` or `target.body`, not both"));
        }
    }
    Ok(Axes {
        engines: axis(&sweep.engines, Engine::ALL.to_vec(), |at| Ok(*at.get_ref()))?,
        codecs: axis(&sweep.codecs, vec![Codec::Hyper], |at| Ok(*at.get_ref()))?,
        lanes: axis(&sweep.lanes, vec![64], |at| whole_u32(at, POSITIVE_U32))?,
        processes: axis(&sweep.processes, vec![1], |at| whole_u32(at, 1..=MAX_PROCESSES))?,
        cpus: axis(&sweep.cpus, vec![1], |at| whole_u32(at, 1..=1024))?,
        rates_per_s,
        bodies,
        stack_sizes_bytes: stack_sizes(&sweep.stack_sizes, tls)?,
        rayon_threads: axis(&sweep.rayon_threads, vec![RayonThreads::Lanes], |at| {
            Ok(*at.get_ref())
        })?,
        allocators: allocators(&sweep.allocators)?,
        offload: steps::offload(&sweep.offload, plan)?,
    })
}

/// Allocators; two libraries of one name would make two cells of one id.
fn allocators(list: &List<String>) -> Result<Vec<Allocator>, Fault> {
    let names = std::cell::RefCell::new(Vec::new());
    axis(list, Vec::new(), |at| {
        let allocator: Allocator = at.get_ref().parse().map_err(|why: String| fault(at, why))?;
        if names.borrow().contains(&allocator.name()) {
            let name = allocator.name();
            return Err(fault(at, format!("another allocator is called `{name}` too: rename one")));
        }
        names.borrow_mut().push(allocator.name());
        Ok(allocator)
    })
}

fn stack_sizes(list: &List<Size>, tls: bool) -> Result<Vec<u64>, Fault> {
    let default = vec![if tls { TLS_STACK_BYTES } else { STACK_BYTES }];
    axis(list, default, |at| {
        let size = size(at, MIN_STACK_BYTES..=MAX_SIZE_BYTES)?;
        if tls && size < MIN_TLS_STACK_BYTES {
            let (found, least) = (size_literal(size), size_literal(MIN_TLS_STACK_BYTES));
            let why = format!("`{found}` is too small for a TLS handshake: at least {least}");
            return Err(fault(at, why));
        }
        Ok(size)
    })
}

fn baseline(key: &Key<Engine>, engines: &[Engine]) -> Result<Engine, Fault> {
    match key {
        Some(at) if !engines.contains(at.get_ref()) => {
            let names: Vec<_> = engines.iter().map(|engine| engine.name()).collect();
            let found = at.get_ref().name();
            let rule = format!("allowed are {}", names.join(", "));
            Err(fault(at, format!("`{found}` is not among `sweep.engines`: {rule}")))
        }
        Some(at) => Ok(*at.get_ref()),
        None if engines.contains(&Engine::BASELINE) => Ok(Engine::BASELINE),
        None => Ok(engines.first().copied().unwrap_or(Engine::BASELINE)),
    }
}

fn expect_failed(file: &File) -> Result<Vec<ExpectFailed>, Fault> {
    let resolve = |entry: &super::file::ExpectFailed| {
        Ok(ExpectFailed {
            engine: entry.engine,
            lanes: entry.lanes.as_ref().map(|at| whole_u32(at, POSITIVE_U32)).transpose()?,
            limit: match &entry.limit {
                Some(at) if at.get_ref().is_empty() => {
                    return Err(fault(at, "is empty: name the limit, or leave the key out"));
                }
                limit => limit.as_ref().map(|at| at.get_ref().clone()),
            },
        })
    };
    file.sweep.expect_failed.iter().map(resolve).collect()
}

fn machine(file: &File, target: &Target) -> Result<Machine, Fault> {
    let cpus = |list: &List<Count>| -> Result<Option<Vec<u32>>, Fault> {
        let cpus = axis(list, Vec::new(), |at| whole_u32(at, 0..=1023))?;
        Ok(list.is_some().then_some(cpus))
    };
    let machine = Machine {
        worker_cpus: cpus(&file.machine.worker_cpus)?,
        target_cpus: cpus(&file.machine.target_cpus)?,
    };
    if let (Some(at), Target::External { .. }) = (&file.machine.target_cpus, target) {
        return Err(fault(at, "only the embedded target can be placed: remove it beside `url`"));
    }
    if let (Some(at), Some(cpus)) = (&file.machine.worker_cpus, &machine.worker_cpus) {
        let most = file.sweep.cpus.as_ref().map_or(1, |list| {
            list.get_ref().iter().map(|cpus| cpus.get_ref().0).max().unwrap_or(1)
        });
        if most > cpus.len() as u64 {
            let named = cpus.len();
            return Err(fault(at, format!("names {named} but `sweep.cpus` asks for {most}")));
        }
    }
    Ok(machine)
}

fn slo(file: &File) -> Result<Option<Slo>, Fault> {
    let bound = |key: &Key<Duration>| key.as_ref().map(|at| duration(at, 1)).transpose();
    let slo = Slo {
        p50_ns: bound(&file.slo.p50)?,
        p90_ns: bound(&file.slo.p90)?,
        p99_ns: bound(&file.slo.p99)?,
        p99_9_ns: bound(&file.slo.p99_9)?,
        error_rate: share(&file.slo.error_rate)?,
    };
    Ok((slo != Slo::default()).then_some(slo))
}

/// Refuses grids whose size is a typing error, before anything is made of them.
fn bounded(file: &File, sweep: &Sweep) -> Result<(), Fault> {
    let axes = &sweep.axes;
    let most = |values: &[u32]| u64::from(values.iter().copied().max().unwrap_or(1));
    if most(&axes.lanes) * most(&axes.processes) > u64::from(u32::MAX) {
        let span = file.sweep.lanes.as_ref().map_or(0..0, Spanned::span);
        let message = "lanes × processes is beyond 4,294,967,295".into();
        return Err(Fault { span, message });
    }
    let kinds = 1
        + usize::from(sweep.aa)
        + usize::from(sweep.idle)
        + usize::from(sweep.syscalls)
        + usize::from(sweep.memory == MemoryTrials::Also);
    let trials = Axis::all()
        .map(|axis| axis.count(axes))
        .chain([kinds])
        .fold(u64::from(sweep.trials), |product, n| product.saturating_mul(n as u64));
    if trials > MAX_TRIALS {
        let keys = [
            file.sweep.trials.as_ref().map(Spanned::span),
            file.sweep.lanes.as_ref().map(Spanned::span),
            file.sweep.rates.as_ref().map(Spanned::span),
            file.sweep.bodies.as_ref().map(Spanned::span),
            file.sweep.processes.as_ref().map(Spanned::span),
            file.sweep.cpus.as_ref().map(Spanned::span),
        ];
        let span = keys.into_iter().flatten().next().unwrap_or(0..0);
        let message = format!(
            "the sweep would hold {} trials: at most {}",
            format_count(trials),
            format_count(MAX_TRIALS)
        );
        return Err(Fault { span, message });
    }
    Ok(())
}
