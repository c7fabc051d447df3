//! How the target is run: under a driver that speaks JSON lines, or by hand.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handler::Handler;
use super::reference::{ReferenceServer, listen};
use super::{Listening, TargetJob, Told};
use crate::plan::endpoint::Endpoint;
use crate::plan::server::ServerPlan;
use crate::plan::target::Law;
use crate::side::split::held_bytes;
use crate::side::usage::{Edge, Usage};
use crate::sys::{now_ns, pin};

/// Longest line that is read from the driver, in bytes.
const MAX_LINE: usize = 1024 * 1024;
const MAX_BODY: u64 = 1 << 40;

/// Runs a target for a driver: a [`TargetJob`] is read from `stdin`, a [`Listening`] written to
/// `stdout`, then any [`Told`] is read, and when `stdin` ends the
/// [`TargetReport`](super::TargetReport) is written and the call returns.
///
/// The calling thread becomes the server: its affinity is set, and the process is killed when the
/// thread that started it ends. A driver must therefore start targets from a thread that outlives
/// them. `stdin` must be a pipe, a socket or a terminal, since a file cannot be waited for.
///
/// # Errors
/// Fails, and says why, on a line that cannot be understood, a job that cannot be played, an
/// address that cannot be listened on, or a system call that the loop cannot do without.
pub fn serve_controlled(stdin: impl AsFd, stdout: impl Write) -> anyhow::Result<()> {
    let mut stdout = stdout;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask to be killed together with the driver")?;
    let mut lines = ControlLines::default();
    let job = loop {
        if let Some(line) = lines.next() {
            break parse::<TargetJob>(&line, "job")?;
        }
        ensure!(lines.read(&stdin)?, "standard input ended before the job, one line of JSON");
    };
    prepare(&job)?;
    if let Some(plan) = job.server.clone() {
        return subject(&job, plan, lines, stdin, stdout);
    }
    let mut server = ReferenceServer::new(job)?;
    server.watch(&stdin).context("standard input must be a pipe, a socket or a terminal")?;
    print(&mut stdout, &Listening { listening: server.address()?, certificate: None })?;
    loop {
        while let Some(line) = lines.next() {
            match parse(&line, "start")? {
                Told::StartAtNs(at) => server.start_at(at),
                Told::Heap(true) => print(&mut stdout, &held_bytes(false))?,
                // Nothing is held, and nobody asks.
                Told::Go(_) | Told::Look(_) | Told::Heap(false) => {}
            }
        }
        if server.turn()? && !lines.read(&stdin)? {
            return print(&mut stdout, &server.report());
        }
    }
}

/// Runs a target until a signal ends the process; `on_listening` is told where it listens, and
/// stalls count from then.
///
/// # Errors
/// Fails on a job that cannot be played, an address that cannot be listened on, or a system call
/// that the loop cannot do without.
pub fn serve_forever(job: TargetJob, on_listening: impl FnOnce(Endpoint)) -> anyhow::Result<()> {
    prepare(&job)?;
    let mut server = ReferenceServer::new(job)?;
    on_listening(server.address()?);
    server.start_at(now_ns());
    loop {
        server.turn()?;
    }
}

/// Runs a server under test, as [`serve_controlled`] does the reference. Its threads end with the
/// process.
fn subject(
    job: &TargetJob,
    plan: ServerPlan,
    mut lines: ControlLines,
    stdin: impl AsFd,
    mut stdout: impl Write,
) -> anyhow::Result<()> {
    let mut listener = Some(listen(&job.listen)?);
    let listening = listener.as_ref().map(TcpListener::local_addr).context("a listener")??;
    let handler = Arc::new(Handler::new(job, plan)?);
    let certificate = handler.certificate();
    print(&mut stdout, &Listening { listening: listening.into(), certificate })?;
    let mut held = job.held;
    loop {
        while let Some(line) = lines.next() {
            match parse(&line, "start")? {
                Told::StartAtNs(at) => handler.start_at(at),
                Told::Go(go) => held = !go,
                Told::Look(edge) => print(&mut stdout, &look(job, &handler, edge))?,
                Told::Heap(true) => print(&mut stdout, &held_bytes(false))?,
                Told::Heap(false) => {}
            }
        }
        if let Some(listener) = listener.take_if(|_| !held) {
            begin(listener, handler.clone(), job.counts_events)?;
        }
        if !lines.read(&stdin)? {
            handler.close();
            return print(&mut stdout, &handler.report());
        }
    }
}

/// What this process used so far; an edge's own order: requests end next to the clocks and counters.
fn look(job: &TargetJob, handler: &Handler, edge: Edge) -> Usage {
    let first = (edge == Edge::End).then(|| handler.own_counts());
    let read = if job.counts_events { Usage::read_every_wait(edge) } else { Usage::read(edge) };
    read.and(first.unwrap_or_else(|| handler.own_counts()))
}

fn begin(listener: TcpListener, handler: Arc<Handler>, counts_events: bool) -> anyhow::Result<()> {
    let engine = move || {
        if counts_events {
            // Here, since whatever this thread starts inherits them, and nothing else does.
            handler.events.open();
        }
        if let Err(e) = super::run(listener, &handler) {
            handler.trouble(0, || format!("{e:#}"));
        }
    };
    std::thread::Builder::new()
        .spawn(engine)
        .context("the engine's thread could not be started")?;
    Ok(())
}

/// Checks a job, and moves and raises what holds for the whole process.
fn prepare(job: &TargetJob) -> anyhow::Result<()> {
    check(job)?;
    pin(&job.cpus)?;
    raise_descriptor_limit();
    Ok(())
}

fn check(job: &TargetJob) -> anyhow::Result<()> {
    let spec = &job.spec;
    match spec.service_time {
        Law::Uniform { min_ns, max_ns } if min_ns > max_ns => {
            bail!("service_time: the shortest, {min_ns} ns, is above the longest, {max_ns} ns")
        }
        Law::Lognormal { sigma, .. } if !(sigma.is_finite() && sigma >= 0.0) => {
            bail!("service_time: sigma is {sigma}; it must be a number of at least 0")
        }
        _ => {}
    }
    let faults = &spec.faults;
    for (name, rate) in [("error_rate", faults.error_rate), ("reset_rate", faults.reset_rate)] {
        ensure!((0.0..=1.0).contains(&rate), "faults: {name} is {rate}; it must be from 0 to 1");
    }
    let sum = faults.error_rate + faults.reset_rate;
    ensure!(sum <= 1.0, "faults: error_rate and reset_rate add up to {sum}; at most 1 is possible");
    if let Some(stall) = faults.stall {
        ensure!(
            stall.for_ns < stall.every_ns,
            "faults: a stall of {} ns every {} ns never ends; it must be shorter than its period",
            stall.for_ns,
            stall.every_ns
        );
    }
    ensure!(
        spec.body_bytes <= MAX_BODY,
        "body: {} bytes; at most {MAX_BODY} bytes (1 TiB) are possible",
        spec.body_bytes
    );
    Ok(())
}

/// Becomes a command, on these CPUs; it is killed together with the thread that started this process.
///
/// # Errors
/// The CPUs cannot be used, or there is no shell.
pub(crate) fn become_command(
    command: &str,
    cpus: &[u32],
) -> anyhow::Result<std::convert::Infallible> {
    pin(cpus)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask to be killed together with the driver")?;
    // Of a single command the shell makes itself, so that signals and figures are the server's.
    let error = std::process::Command::new("/bin/sh").args(["-c", command]).exec();
    Err(error).context("/bin/sh cannot be started")
}

/// Raises the soft limit on descriptors to the hard one. Failing that, the old limit stands, and
/// clients beyond it wait in the backlog.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Lines that arrive in pieces.
#[derive(Default)]
struct ControlLines {
    bytes: Vec<u8>,
}

impl ControlLines {
    /// Reads once; returns false at the end of the input.
    fn read(&mut self, input: impl AsFd) -> anyhow::Result<bool> {
        ensure!(
            self.bytes.len() < MAX_LINE,
            "a line of the driver is longer than {MAX_LINE} bytes"
        );
        let mut buffer = [0; 4096];
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.bytes.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(error) => Err(error).context("cannot read standard input"),
        }
    }

    /// The next whole line that is not blank.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let end = self.bytes.iter().position(|&byte| byte == b'\n')?;
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

fn parse<T: DeserializeOwned>(line: &[u8], what: &str) -> anyhow::Result<T> {
    serde_json::from_slice(line).with_context(|| {
        let text = String::from_utf8_lossy(line);
        let start: String = text.trim_end().chars().take(200).collect();
        format!("the target cannot understand the {what} line: {start}")
    })
}

fn print(stdout: &mut impl Write, message: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stdout.write_all(&line).and_then(|()| stdout.flush()).context("cannot write standard output")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::target::{EmbeddedTarget, InjectedFaults, Stall};

    fn job(spec: impl FnOnce(&mut EmbeddedTarget)) -> TargetJob {
        let mut target = EmbeddedTarget {
            service_time: Law::Fixed { ns: 0 },
            servers: 0,
            processes: 1,
            body_bytes: 1,
            faults: InjectedFaults::default(),
        };
        spec(&mut target);
        TargetJob::new(([127, 0, 0, 1], 0).into(), target, 1)
    }

    #[test]
    fn impossible_jobs_are_refused_by_the_name_of_what_is_wrong() {
        let stall = |every_ns, for_ns| Some(Stall { every_ns, for_ns });
        let cases: [(&str, TargetJob); 9] = [
            ("sigma", job(|t| t.service_time = Law::Lognormal { mean_ns: 1, sigma: -1.0 })),
            ("sigma", job(|t| t.service_time = Law::Lognormal { mean_ns: 1, sigma: f64::NAN })),
            ("shortest", job(|t| t.service_time = Law::Uniform { min_ns: 2, max_ns: 1 })),
            ("error_rate", job(|t| t.faults.error_rate = 1.1)),
            ("reset_rate", job(|t| t.faults.reset_rate = f64::NAN)),
            ("add up", job(|t| (t.faults.error_rate, t.faults.reset_rate) = (0.6, 0.6))),
            ("stall", job(|t| t.faults.stall = stall(5, 5))),
            ("stall", job(|t| t.faults.stall = stall(0, 0))),
            ("body", job(|t| t.body_bytes = u64::MAX)),
        ];
        for (word, job) in cases {
            let error = check(&job).expect_err(word).to_string();
            assert!(error.contains(word), "{word} is not named: {error}");
        }
        check(&job(|_| {})).expect("a plain job is fine");
    }

    #[test]
    fn cpus_that_do_not_exist_are_an_error() {
        for cpu in [rustix::thread::CpuSet::MAX_CPU as u32 - 1, u32::MAX] {
            let error = pin(&[cpu]).expect_err("no machine has it").to_string();
            assert!(error.contains("cpus"), "{error}");
        }
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let mut lines = ControlLines::default();
        let mut got = Vec::new();
        for byte in b"\n one\n\ntwo\nrest" {
            lines.bytes.push(*byte);
            got.extend(lines.next());
        }
        assert_eq!(got, [&b" one\n"[..], b"two\n"]);
    }
}
