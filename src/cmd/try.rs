//! `duel try`: one URL, no config file.

use std::process::ExitCode;

use super::shard::Part;
use super::sweep::{Directory, Output, allow, execute};
use crate::cli::Try;
use crate::config::Setting;

/// Runs what the arguments say.
pub fn run(args: &Try) -> ExitCode {
    if let Some(hint) = args.foreign.hint() {
        return super::usage(hint);
    }
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(error) => return super::usage(error),
    };
    let mut sweep = match crate::config::from_flags(settings) {
        Ok(sweep) => sweep,
        Err(error) => return super::usage(error),
    };
    allow(&mut sweep, &args.allow);
    let metrics = match super::metrics_address(args.metrics.as_deref()) {
        Ok(metrics) => metrics,
        Err(error) => return super::usage(error),
    };
    execute(
        &sweep,
        &Output {
            dir: args.out.clone().map_or(Directory::None, Directory::Named),
            resume: false,
            force: false,
            json: args.json,
            keep_going: args.keep_going,
            metrics,
            part: Part::default(),
        },
    )
}

/// The arguments as keys of a config, so that both are checked in one place.
fn settings(args: &Try) -> Result<Vec<Setting>, String> {
    let mut set = vec![
        Setting::flag("URL", "target.url", args.url.clone()),
        Setting::flag("-m", "plan.request.0.method", args.method.clone()),
        Setting::flag("--timeout", "plan.timeout", seconds(&args.timeout)),
        Setting::flag("--warmup", "plan.warmup", seconds(&args.warmup)),
        Setting::flag("--pacer", "plan.pacer", args.pacer.clone()),
        Setting::flag("--seed", "plan.seed", args.seed.clone()),
        Setting::flag("--disable-keepalive", "plan.keep_alive", !args.disable_keepalive),
        Setting::flag("--engines", "sweep.engines", args.engines.clone()),
        Setting::flag("--codecs", "sweep.codecs", args.codecs.clone()),
        Setting::flag("-c", "sweep.lanes", args.lanes.clone()),
        Setting::flag("--processes", "sweep.processes", args.processes.clone()),
        Setting::flag("--cpus", "sweep.cpus", args.cpus.clone()),
        Setting::flag("--trials", "sweep.trials", args.trials.clone()),
        // A quick look shows what it saw: as many trials as were asked for.
        Setting::flag("--trials", "sweep.noise_repeats", "0".to_string()),
        Setting::flag("name", "name", "try".to_string()),
    ];
    let mut given = |flag: &str, key: &str, value: Option<&String>| {
        set.extend(value.map(|value| Setting::flag(flag, key, value.clone())));
    };
    given("--unix-socket", "target.unix_socket", args.unix_socket.as_ref());
    given("--ca-file", "target.ca_file", args.ca_file.as_ref());
    given("--cert", "target.client_cert", args.cert.as_ref());
    given("--key", "target.client_key", args.key.as_ref());
    given("--stack-size", "sweep.stack_sizes", args.stack_size.as_ref());
    given("-R", "sweep.rates", args.rate.as_ref());
    given("-n", "plan.requests", args.requests.as_ref());
    given("-d", "plan.duration", args.duration.as_deref().map(seconds).as_ref());
    let file = args.body.as_ref().and_then(|body| body.strip_prefix('@'));
    given("-b", "plan.request.0.body_file", file.map(Into::into).as_ref());
    given("-D", "plan.request.0.body_file", args.body_file.as_ref());
    given("-b", "plan.request.0.body", args.body.as_ref().filter(|_| file.is_none()));
    let arrivals = args.rate.is_some().then(|| args.arrivals.as_deref().unwrap_or("constant"));
    given("--arrivals", "plan.arrivals", arrivals.map(Into::into).as_ref());
    if args.insecure {
        set.push(Setting::flag("-k", "target.insecure", true));
    }
    for (name, values) in headers(&args.headers)? {
        set.push(Setting::header("-H", &name, values));
    }
    Ok(set)
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
