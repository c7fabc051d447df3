//! `duel target`: the embedded target alone.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::Target as Arguments;
use crate::plan::endpoint::Endpoint;
use crate::plan::sweep::Target;
use crate::target::{TargetJob, serve_controlled, serve_forever};

/// Serves until a signal, or under the driver until standard input closes.
pub fn run(args: &Arguments) -> ExitCode {
    if args.control {
        return match serve_controlled(std::io::stdin(), std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say!("duel target: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let job = match job(args) {
        Ok(job) => job,
        Err(error) => return super::usage(error),
    };
    if job.listen.tcp().is_some_and(|at| !at.ip().is_loopback()) {
        say!("duel target: {} is not loopback: whoever reaches it is served", job.listen);
    }
    let listening = |at| {
        let scheme = if matches!(at, Endpoint::Tcp(_)) { "http://" } else { "" };
        crate::terminal::print(&format!("duel target: listening on {scheme}{at}\n"));
    };
    match serve_forever(job, listening) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::usage(format!("{error:#}")),
    }
}

/// The arguments as a config, so that both are checked in one place.
fn job(args: &Arguments) -> Result<TargetJob, crate::config::ConfigError> {
    let overrides = [
        format!("target.service_time={}", args.service_time),
        format!("target.servers={}", args.servers),
        format!("target.body={}", args.body),
        format!("target.faults={{error_rate={}}}", args.error_rate),
    ];
    let sweep =
        crate::config::parse("name = \"target\"", "command line", &overrides, Path::new("."))?;
    let Target::Embedded(spec) = sweep.target else {
        unreachable!("no override above names a url")
    };
    let listen = args.listen.clone();
    Ok(TargetJob { listen, spec, seed: args.seed, cpus: vec![], digest: false })
}
