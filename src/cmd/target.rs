//! `duel target`: the embedded target alone.

use std::process::ExitCode;

use crate::cli::TargetArgs;
use crate::config::{Setting, Value, from_flags};
use crate::driver::cpus::parse_list;
use crate::plan::endpoint::Endpoint;
use crate::plan::sweep::Target;
use crate::server::{TargetJob, become_command, serve_controlled, serve_forever};

/// Serves until a signal, or under the driver until standard input closes.
pub fn run(args: &TargetArgs) -> super::Ended {
    if args.control {
        serve_controlled(std::io::stdin(), std::io::stdout()).map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(command) = &args.exec {
        match become_command(command, &parse_list(&args.cpus)).map_err(failed)? {}
    }
    let job = job(args).map_err(super::usage)?;
    if job.listen.tcp().is_some_and(|at| !at.ip().is_loopback()) {
        say!("duel target: {} is not loopback: whoever reaches it is served", job.listen);
    }
    let listening = |at| {
        let scheme = if matches!(at, Endpoint::Tcp(_)) { "http://" } else { "" };
        crate::terminal::page(&format!("duel target: listening on {scheme}{at}\n"));
    };
    serve_forever(job, listening).map_err(|error| super::usage(format!("{error:#}")))?;
    Ok(ExitCode::SUCCESS)
}

fn failed(error: anyhow::Error) -> ExitCode {
    say!("duel target: {error:#}");
    ExitCode::FAILURE
}

/// The arguments as keys of a config, so that both are checked in one place.
fn job(args: &TargetArgs) -> anyhow::Result<TargetJob> {
    let time = match args.service_time.as_str() {
        table if table.trim_start().starts_with('{') => Value::literal(table),
        time => Value::from(time.to_string()),
    };
    let settings = vec![
        Setting::flag("--service-time", "target.service_time", time),
        Setting::flag("--servers", "target.servers", args.servers.clone()),
        Setting::flag("--body", "target.body", args.body.clone()),
        Setting::flag("--error-rate", "target.faults.error_rate", args.error_rate.clone()),
        Setting::flag("--seed", "plan.seed", args.seed.clone()),
    ];
    let sweep = from_flags(settings, &[])?;
    let Target::Embedded(spec) = sweep.target else { unreachable!("no flag above names a url") };
    Ok(TargetJob::new(args.listen.clone(), spec, sweep.plan.seed))
}
