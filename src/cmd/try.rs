//! `duel try`: one URL, no config file.

use std::process::ExitCode;

use super::shard::ShardPart;
use super::sweep::{Directory, Output, allow, execute, look};
use crate::cli::TryArgs;
use crate::config::{Setting, Value, in_flags};
use crate::plan::Extent;
use crate::plan::sweep::Sweep;
use crate::stats::precision::FEWEST_BLOCKS;
use crate::units::{SECOND_NS, duration_literal, format_ns, parse_duration_ns};

pub fn run(args: &TryArgs) -> super::Ended {
    let settings = settings(args).map_err(super::usage)?;
    let sweep = crate::config::from_flags(settings, &args.overrides);
    // What was given as a key is told as one.
    let set = |key: &str| args.overrides.iter().any(|set| set.split('=').next() == Some(key));
    let told: Vec<_> = FLAGS.iter().filter(|(_, key)| !set(key)).copied().collect();
    let mut sweep = sweep.map_err(|e| super::usage(in_flags(&e.to_string(), &told)))?;
    allow(&mut sweep, &args.allow).map_err(super::usage)?;
    if Trials::of(args).are_shared {
        suit(&mut sweep, args)?;
    }
    let metrics = super::metrics_address(args.metrics.as_deref()).map_err(super::usage)?;
    Ok(execute(
        &sweep,
        &Output {
            dir: args.out.clone().map_or(Directory::None, Directory::Named),
            resume: false,
            force: false,
            json: args.json,
            served: true,
            keep_going: args.keep_going,
            metrics,
            flags: FLAGS,
            part: ShardPart::default(),
        },
    ))
}

/// The flags that stand for keys of a config.
const FLAGS: &[(&str, &str)] = &[
    ("URL", "target.url"),
    ("--unix-socket", "target.unix_socket"),
    ("--ca-file", "target.ca_file"),
    ("--cert", "target.client_cert"),
    ("--key", "target.client_key"),
    ("-k", "target.insecure"),
    ("-m", "plan.request.0.method"),
    ("-b", "plan.request.0.body"),
    ("-D", "plan.request.0.body_file"),
    ("-n", "plan.requests"),
    ("-d", "plan.duration"),
    ("--warmup", "plan.warmup"),
    ("--timeout", "plan.timeout"),
    ("--arrivals", "plan.arrivals"),
    ("--pacer", "plan.pacer"),
    ("--seed", "plan.seed"),
    ("--disable-keepalive", "plan.keep_alive"),
    ("--engines", "sweep.engines"),
    ("--codecs", "sweep.codecs"),
    ("-c", "sweep.lanes"),
    ("-R", "sweep.rates"),
    ("--processes", "sweep.processes"),
    ("--cpus", "sweep.cpus"),
    ("--stack-size", "sweep.stack_sizes"),
    ("--trials", "sweep.trials"),
    ("--precision", "sweep.precision"),
    ("--budget", "sweep.budget"),
];

/// What a flag says of its key.
fn flag(name: &str, value: impl Into<Value>) -> Setting {
    let key = FLAGS.iter().find(|(flag, _)| *flag == name).expect("it stands among them").1;
    Setting::flag(name, key, value)
}

/// The arguments as keys of a config, so that both are checked in one place.
fn settings(args: &TryArgs) -> Result<Vec<Setting>, String> {
    let mut set = vec![
        flag("URL", args.url.clone()),
        flag("-m", args.method.clone()),
        flag("--timeout", seconds(&args.timeout)),
        flag("--pacer", args.pacer.clone()),
        flag("--seed", args.seed.clone()),
        flag("--disable-keepalive", !args.disable_keepalive),
        flag("--engines", args.engines.clone()),
        flag("--codecs", args.codecs.clone()),
        flag("-c", args.lanes.clone()),
        flag("--processes", args.processes.clone()),
        flag("--cpus", args.cpus.clone()),
        // A quick look shows what it saw: as many trials as were asked for.
        Setting::flag("--trials", "sweep.noise_repeats", "0".to_string()),
        Setting::flag("name", "name", "try".to_string()),
    ];
    let file = args.body.as_ref().and_then(|body| body.strip_prefix('@'));
    set.extend(file.map(|f| Setting::flag("-b", "plan.request.0.body_file", f.to_string())));
    let arrivals = args.rate.is_some().then(|| args.arrivals.as_deref().unwrap_or("constant"));
    let trials = Trials::of(args);
    for (name, value) in [
        ("--unix-socket", &args.unix_socket),
        ("--ca-file", &args.ca_file),
        ("--cert", &args.cert),
        ("--key", &args.key),
        ("--stack-size", &args.stack_size),
        ("-R", &args.rate),
        ("-n", &args.requests),
        ("-d", &trials.duration),
        ("--trials", &trials.trials),
        ("--warmup", &args.warmup.as_deref().map(seconds)),
        ("--precision", &args.precision),
        ("--budget", &args.budget),
        ("-D", &args.body_file),
        ("-b", &args.body.clone().filter(|_| file.is_none())),
        ("--arrivals", &arrivals.map(Into::into)),
    ] {
        set.extend(value.as_ref().map(|value| flag(name, value.clone())));
    }
    if args.insecure {
        set.push(flag("-k", true));
    }
    for (name, values) in headers(&args.headers)? {
        set.push(Setting::header("-H", &name, values));
    }
    Ok(set)
}

/// Trials of an engine where nothing is said: the fewest that give an interval whose width counts.
const TRIALS: u32 = FEWEST_BLOCKS;
/// Shorter trials would be set-up more than load.
const SHORTEST_TRIAL_NS: u64 = 200_000_000;
/// Above it the whole is longer than any plan may be, which the config says better.
const LONGEST_TRIAL_NS: u64 = 3 * 24 * 3600 * SECOND_NS;
/// Responses longer than this part of a trial show in its rate.
const SLOW: u64 = 100;
/// Responses, one after another, that a trial lasts for at least.
const ROUNDS: u64 = 3;
/// Length of all of an engine's trials where nothing is said.
const DURATION: &str = "10s";

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
fn suit(sweep: &mut Sweep, args: &TryArgs) -> Result<(), ExitCode> {
    let Extent::DurationNs(each) = sweep.plan.extent else { return Ok(()) };
    let Some(response) = look::response_ns(sweep, FLAGS)? else { return Ok(()) };
    if response < each / SLOW {
        return Ok(());
    }
    let fixed = sweep.precision.is_none();
    let least = response.saturating_mul((each / response).max(ROUNDS));
    let whole = each * u64::from(TRIALS);
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
fn headers(given: &[String]) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut headers: Vec<(String, Vec<String>)> = Vec::new();
    for header in given {
        let (name, value) =
            // The text is not repeated: what lacks its colon may be a secret all the same.
            header.split_once(':').ok_or("-H: a header without a colon: write 'Name: value'")?;
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
