//! `duel try`: one URL, no config file.

use std::path::Path;
use std::process::ExitCode;

use toml::{Table, Value};

use super::shard::Part;
use super::sweep::{Directory, Output, allow, execute};
use crate::cli::Try;

/// Runs what the arguments say.
pub fn run(args: &Try) -> ExitCode {
    let config = match config(args) {
        Ok(config) => config,
        Err(error) => return super::usage(error),
    };
    let here = Path::new(".");
    let mut sweep = match crate::config::parse(&config.to_string(), "command line", &[], here) {
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

/// The arguments as a config, so that both are checked in one place.
fn config(args: &Try) -> Result<Table, String> {
    let (url, path) = split_path(&args.url);
    let mut target = Table::new();
    target.insert("url".into(), url.into());
    for (key, value) in [("unix_socket", &args.unix_socket), ("ca_file", &args.ca_file)] {
        if let Some(value) = value {
            target.insert(key.into(), value.clone().into());
        }
    }
    if args.insecure {
        target.insert("insecure".into(), true.into());
    }

    let mut request = Table::new();
    request.insert("method".into(), args.method.clone().into());
    request.insert("path".into(), path.into());
    let mut headers = Table::new();
    for header in &args.headers {
        let (name, value) =
            // The text is not repeated: what lacks its colon may be a secret all the same.
            header.split_once(':').ok_or("-H: a header without a colon: write 'Name: value'")?;
        headers.insert(name.trim().into(), value.trim().into());
    }
    if !headers.is_empty() {
        request.insert("headers".into(), headers.into());
    }
    match args.body.as_deref().map(|b| b.strip_prefix('@').ok_or(b)) {
        Some(Ok(file)) => request.insert("body_file".into(), file.into()),
        Some(Err(body)) => request.insert("body".into(), body.into()),
        None => None,
    };

    let mut plan = Table::new();
    plan.insert("request".into(), Value::Array(vec![request.into()]));
    match &args.requests {
        Some(requests) => plan.insert("requests".into(), requests.clone().into()),
        None => {
            let duration = args.duration.clone().unwrap_or_else(|| "10s".into());
            plan.insert("duration".into(), duration.into())
        }
    };
    plan.insert("timeout".into(), args.timeout.clone().into());
    plan.insert("warmup".into(), args.warmup.clone().into());
    plan.insert("pacer".into(), args.pacer.clone().into());
    plan.insert("seed".into(), (args.seed as i64).into());
    if args.disable_keepalive {
        plan.insert("keep_alive".into(), false.into());
    }

    let list = |values: &[String]| Value::Array(values.iter().cloned().map(Value::from).collect());
    let one = |value: &String| Value::Array(vec![value.clone().into()]);
    let mut sweep = Table::new();
    sweep.insert("engines".into(), list(&args.engines));
    sweep.insert("codecs".into(), list(&args.codecs));
    sweep.insert("lanes".into(), one(&args.lanes));
    sweep.insert("processes".into(), one(&args.processes));
    sweep.insert("cpus".into(), one(&args.cpus));
    if let Some(size) = &args.stack_size {
        sweep.insert("stack_sizes".into(), one(size));
    }
    sweep.insert("trials".into(), args.trials.clone().into());
    // A quick look shows what it saw: as many trials as were asked for.
    sweep.insert("noise_repeats".into(), 0.into());
    if let Some(rate) = &args.rate {
        let arrivals = args.arrivals.clone().unwrap_or_else(|| "constant".into());
        plan.insert("arrivals".into(), arrivals.into());
        sweep.insert("rates".into(), one(rate));
    }

    let mut config = Table::new();
    config.insert("name".into(), "try".into());
    config.insert("target".into(), target.into());
    config.insert("plan".into(), plan.into());
    config.insert("sweep".into(), sweep.into());
    Ok(config)
}

/// Splits the path off a URL, since the request carries it.
fn split_path(url: &str) -> (String, String) {
    let split = match url.find("://") {
        Some(at) => url[at + 3..].find(['/', '?']).map(|end| at + 3 + end),
        // unix:/socket:/path
        None if url.starts_with("unix:") => {
            let colon = url["unix:".len()..].find(":/").map(|at| at + "unix:".len());
            return match colon {
                Some(at) => (url[..at].into(), url[at + 1..].into()),
                None => (url.into(), "/".into()),
            };
        }
        None => url.find(['/', '?']),
    };
    match split {
        None => (url.into(), "/".into()),
        Some(at) => {
            let (base, path) = url.split_at(at);
            let slash = if path.starts_with('?') { "/" } else { "" };
            (base.into(), format!("{slash}{path}"))
        }
    }
}
