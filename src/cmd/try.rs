//! `duel try`: one URL, no config file.

use std::process::ExitCode;

use anyhow::Context as _;

use super::sweep::{Directory, Output, allow, blocks, execute, look};
use crate::cli::TryArgs;
use crate::config::{Setting, Value, in_flags};
use crate::plan::sweep::Sweep;
use crate::plan::{Extent, LONGEST_NS};
use crate::stats::precision::FEWEST_BLOCKS;
use crate::units::{duration_literal, format_ns, parse_duration_ns};

pub fn run(args: &TryArgs) -> super::Ended {
    let trials = Trials::of(args);
    let flags = flags(args, &trials);
    // What was given as a key is told as one.
    let set = |key: &str| args.overrides.iter().any(|set| set.split('=').next() == Some(key));
    let told = flags.iter().map(|(flag, key, _)| (*flag, *key)).filter(|(_, key)| !set(key));
    let told: Vec<_> = told.collect();
    let settings = settings(flags, &args.headers).map_err(super::usage)?;
    let sweep = crate::config::from_flags(settings, &args.overrides);
    let mut sweep = sweep.map_err(|e| super::usage(in_flags(&e.to_string(), &told)))?;
    allow(&mut sweep, &args.sweep.allowed).map_err(super::usage)?;
    if trials.are_shared {
        suit(&mut sweep, args, &told)?;
    }
    let output = Output {
        dir: args.out.clone().map_or(Directory::None, Directory::Named),
        json: args.json,
        served: true,
        keep_going: args.sweep.keep_going,
        metrics: super::metrics_address(&args.sweep)?,
        flags: told,
        ..Output::default()
    };
    Ok(execute(&sweep, &output))
}

/// Every flag that stands for a key of a config, with that key, and with a value where it has one.
fn flags(args: &TryArgs, trials: &Trials) -> Vec<(&'static str, &'static str, Option<Value>)> {
    let given = |text: &Option<String>| text.clone().map(Value::from);
    let always = |text: &String| Some(Value::from(text.clone()));
    let list = |names: &[String]| Some(Value::from(names.to_vec()));
    let arrivals = args.rate.as_ref().map(|_| args.arrivals.as_deref().unwrap_or("constant"));
    let file = args.body.as_deref().and_then(|body| body.strip_prefix('@'));
    let body = args.body.as_deref().filter(|_| file.is_none());
    let text = |text: Option<&str>| text.map(|text| Value::from(text.to_string()));
    vec![
        ("URL", "target.url", always(&args.url)),
        ("--unix-socket", "target.unix_socket", given(&args.unix_socket)),
        ("--ca-file", "target.ca_file", given(&args.ca_file)),
        ("--cert", "target.client_cert", given(&args.cert)),
        ("--key", "target.client_key", given(&args.key)),
        ("-k", "target.insecure", args.insecure.then(|| true.into())),
        ("-m", "plan.request.0.method", always(&args.method)),
        ("-b", "plan.request.0.body", text(body)),
        ("-D", "plan.request.0.body_file", given(&args.body_file)),
        ("-b", "plan.request.0.body_file", text(file)),
        ("-n", "plan.requests", given(&args.requests)),
        ("-d", "plan.duration", given(&trials.duration)),
        ("--warmup", "plan.warmup", given(&args.warmup.as_deref().map(seconds))),
        ("--timeout", "plan.timeout", always(&seconds(&args.timeout))),
        ("--arrivals", "plan.arrivals", text(arrivals)),
        ("--pacer", "plan.pacer", always(&args.pacer)),
        ("--seed", "plan.seed", always(&args.seed)),
        ("--disable-keepalive", "plan.keep_alive", Some((!args.disable_keepalive).into())),
        ("--engines", "sweep.engines", list(&args.engines)),
        ("--codecs", "sweep.codecs", list(&args.codecs)),
        ("-c", "sweep.lanes", always(&args.lanes)),
        ("-R", "sweep.rates", given(&args.rate)),
        ("--processes", "sweep.processes", always(&args.processes)),
        ("--cpus", "sweep.cpus", always(&args.cpus)),
        ("--stack-size", "sweep.stack_sizes", given(&args.stack_size)),
        ("--trials", "sweep.trials", given(&trials.trials)),
        ("--precision", "sweep.precision", given(&args.precision)),
        ("--budget", "sweep.budget", given(&args.budget)),
    ]
}

/// The flags that are given as keys of a config, so that both are checked in one place.
fn settings(
    flags: Vec<(&'static str, &'static str, Option<Value>)>,
    given: &[String],
) -> anyhow::Result<Vec<Setting>> {
    let flags = flags.into_iter();
    let of_flags = flags.filter_map(|(flag, key, value)| Some(Setting::flag(flag, key, value?)));
    let mut set: Vec<Setting> = of_flags.collect();
    set.push(Setting::flag("name", "name", "try".to_string()));
    // A quick look shows what it saw: as many trials as were asked for.
    set.push(Setting::flag("--trials", "sweep.noise_repeats", "0".to_string()));
    for (name, values) in headers(given)? {
        set.push(Setting::header("-H", &name, values));
    }
    Ok(set)
}

/// Trials of an engine where nothing is said: the fewest that give an interval whose width counts.
const TRIALS: u32 = FEWEST_BLOCKS;
/// Shorter trials would be set-up more than load.
const SHORTEST_TRIAL_NS: u64 = 200_000_000;
/// Above it the whole is longer than any plan may be, which the config says better.
const LONGEST_TRIAL_NS: u64 = LONGEST_NS as u64 / TRIALS as u64;
/// Responses longer than this part of a trial show in its rate.
const SLOW: u64 = 100;
/// Responses, one after another, that a trial lasts for at least.
const ROUNDS: u64 = 3;
/// Length of all of an engine's trials where nothing is said.
pub(super) const DURATION: &str = "10s";

/// How often each engine runs, and for how long each time.
#[derive(Debug, PartialEq)]
struct Trials {
    duration: Option<String>,
    /// `None` where precision decides.
    trials: Option<String>,
    /// Whether they share the time, so that their length is duel's to choose.
    are_shared: bool,
}

impl Trials {
    /// Unless `--trials` says otherwise, the time is shared by interleaved trials, since engines can
    /// only be compared within blocks: one long trial each tells nothing of what chance did.
    fn of(args: &TryArgs) -> Trials {
        let given = args.duration.as_deref().map(seconds);
        let until_precise = args.precision.is_some() || args.budget.is_some();
        if args.trials.is_some() {
            let trials = args.trials.clone();
            return Trials { duration: given, trials, are_shared: false };
        }
        let whole = given.clone().unwrap_or_else(|| DURATION.into());
        let each = parse_duration_ns(&whole).map_or(0, |ns| ns / u64::from(TRIALS));
        let sensible = (SHORTEST_TRIAL_NS..=LONGEST_TRIAL_NS).contains(&each);
        if args.requests.is_some() || !sensible {
            let one = (!until_precise).then(|| "1".into());
            return Trials { duration: given, trials: one, are_shared: false };
        }
        let trials = (!until_precise).then(|| TRIALS.to_string());
        Trials { duration: Some(duration_literal(each)), trials, are_shared: true }
    }
}

/// Makes trials whole rounds of responses where those take long, and as many as still fit the time:
/// lanes of a closed loop write and read in waves, and a window that cut one would hold a part of its
/// CPU. For the same reason the window then begins between two waves.
fn suit(
    sweep: &mut Sweep,
    args: &TryArgs,
    flags: &[(&'static str, &'static str)],
) -> Result<(), ExitCode> {
    let Extent::DurationNs(each) = sweep.plan.extent else { return Ok(()) };
    let Some(response) = look::response_ns(sweep, flags)? else { return Ok(()) };
    if response < each / SLOW {
        return Ok(());
    }
    let fixed = sweep.precision.is_none();
    let whole = each * u64::from(TRIALS);
    // Engines can be told apart by many trials of one round sooner than by a few of several.
    let rounds = match blocks::trials_needed(sweep) {
        Some(trials) if fixed => (whole / u64::from(trials) / response).clamp(1, ROUNDS),
        _ => ROUNDS,
    };
    let least = response.saturating_mul((each / response).max(rounds));
    let trials = (whole / least).clamp(1, u64::from(TRIALS));
    let share = whole / trials;
    let each = if fixed { share - share % response.min(share) } else { least };
    sweep.plan.extent = Extent::DurationNs(each);
    if fixed {
        sweep.trials = trials as u32;
    }
    if args.warmup.is_none() {
        sweep.plan.warmup_ns = response * 3 / 2;
    }
    say!(
        "duel: a response takes {}: trials of {} after a warm-up of {}",
        format_ns(response as f64),
        format_ns(each as f64),
        format_ns(sweep.plan.warmup_ns as f64)
    );
    Ok(())
}

/// Headers in order, each with all that was said of it.
fn headers(given: &[String]) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let mut headers: Vec<(String, Vec<String>)> = Vec::new();
    for header in given {
        let (name, value) =
            // The text is not repeated: what lacks its colon may be a secret all the same.
            header.split_once(':').context("-H: a header without a colon: write 'Name: value'")?;
        let (name, value) = (name.trim(), value.trim().to_string());
        match headers.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            Some((_, values)) => values.push(value),
            None => headers.push((name.into(), vec![value])),
        }
    }
    Ok(headers)
}

/// A time; on the command line a number alone counts seconds, as in other tools.
fn seconds(text: &str) -> String {
    let bare = text.parse::<f64>().is_ok_and(f64::is_finite);
    if bare { format!("{text}s") } else { text.into() }
}
