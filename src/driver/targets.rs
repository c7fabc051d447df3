//! The targets that a trial starts: the embedded one, servers under test, and what those call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;

use super::files::StepFiles;
use super::own::Own;
use super::pipe::{NoLine, Piped};
use crate::format::TargetUse;
use crate::plan::endpoint::Endpoint;
use crate::plan::server::ServerPlan;
use crate::plan::target::EmbeddedTarget;
use crate::server::{Listening, TargetJob, TargetReport, Told, digest};
use crate::side::usage::{Edge, Usage};
use crate::sys::now_ns;
use crate::units::SECOND_NS;
use crate::work::files::worker_name;

/// How long a target may take to listen, or to report.
const PATIENCE_NS: u64 = 10 * SECOND_NS;

#[derive(Default)]
pub(super) struct Targets {
    running: Vec<Piped>,
    endpoints: Vec<Endpoint>,
    /// What those that speak TLS show.
    certificates: Vec<String>,
    /// Whether they can be asked what they use.
    tell: bool,
    /// A server of the user's own, in place of all of them.
    own: Option<Own>,
    upstream: Option<Piped>,
    /// Behind the servers, since they go when those are gone.
    files: Option<StepFiles>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TargetsReport {
    pub(super) used: TargetUse,
    /// The same of what a server under test called.
    pub(super) upstream: Option<TargetUse>,
    pub(super) trouble: Option<String>,
}

impl Targets {
    /// Starts `spec.processes` targets, each at its own address of 127.0.0.0/8, and what they call on
    /// the CPUs `beside`.
    ///
    /// A server under test is held until [`Targets::go`], so that what it holds by itself can be read.
    pub(super) fn start(
        spec: &EmbeddedTarget,
        server: Option<ServerPlan>,
        seed: u64,
        (cpus, beside): (&[u32], &[u32]),
        counts_events: bool,
    ) -> anyhow::Result<Self> {
        if let Some(own) = server.as_ref().and_then(ServerPlan::own) {
            let own = Own::start(own, cpus)?;
            let endpoints = vec![own.at.into()];
            return Ok(Targets { endpoints, own: Some(own), ..Targets::default() });
        }
        let mut targets = Targets::default();
        let at = |number| SocketAddr::new(address(number), 0).into();
        let mut job =
            TargetJob { cpus: cpus.to_vec(), ..TargetJob::new(at(0), spec.clone(), seed) };
        if let Some(plan) = server {
            let setting = &plan.setting;
            if let Some(upstream) = &setting.upstream {
                // Other draws than those of a handler that waits.
                let job = TargetJob::new(at(spec.processes), upstream.target(), !seed);
                let job = TargetJob { cpus: beside.to_vec(), ..job };
                let mut pipe = told("upstream", &job)?;
                targets.endpoints.push(listening(&mut pipe)?.listening);
                targets.upstream = Some(pipe);
            }
            if setting.has_local_work() {
                let mix = [setting.local_work()];
                targets.files = Some(StepFiles::of(&mix, 0..spec.processes));
            }
            job.upstream = targets.endpoints.pop();
            job.held = true;
            job.counts_events = counts_events;
            job.server = Some(plan);
        }
        targets.spawn(&job)?;
        Ok(targets)
    }

    pub(super) fn start_digesting(spec: &EmbeddedTarget, seed: u64) -> anyhow::Result<Self> {
        let at = SocketAddr::new(address(0), 0).into();
        let mut targets = Targets::default();
        targets.spawn(&TargetJob { digest: true, ..TargetJob::new(at, spec.clone(), seed) })?;
        Ok(targets)
    }

    fn spawn(&mut self, all: &TargetJob) -> anyhow::Result<()> {
        self.tell = all.server.is_some();
        for number in 0..all.spec.processes {
            let files = self.files.as_ref().map(|files| worker_name(files.name(), number));
            let job = TargetJob {
                listen: SocketAddr::new(address(number), 0).into(),
                seed: all.seed.wrapping_add(u64::from(number)),
                files,
                ..all.clone()
            };
            self.running.push(told(&format!("target {number}"), &job)?);
        }
        for pipe in &mut self.running {
            let Listening { listening, certificate } = listening(pipe)?;
            self.endpoints.push(listening);
            self.certificates.extend(certificate);
        }
        Ok(())
    }

    pub(super) fn stopped_ns(&mut self) -> u64 {
        let own = self.own.as_mut().map_or(0, Own::stopped_ns);
        let all = self.running.iter_mut().chain(&mut self.upstream);
        all.map(Piped::stopped_ns).max().unwrap_or(0).max(own)
    }

    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub(super) fn certificates(&self) -> &[String] {
        &self.certificates
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = u32> + Clone {
        let own = self.own.iter().flat_map(Own::pids);
        self.running.iter().map(Piped::id).chain(own)
    }

    pub(super) fn go(&mut self) {
        self.tell(Told::Go(true));
    }

    fn tell(&mut self, told: Told) {
        let line = serde_json::to_vec(&told).expect("plain data");
        for pipe in &mut self.running {
            // A target that died shows in the ledger and in its missing report.
            let _ = pipe.send_line(&line);
        }
    }

    /// What servers under test used so far, as they read it themselves: a thread that has ended leaves
    /// no trace outside. Empty for the reference, whose loop nothing must hold up.
    pub(super) fn usage(&mut self, edge: Edge) -> Vec<Usage> {
        if !self.tell {
            return Vec::new();
        }
        // One that does not answer is looked at from outside, as are all then.
        self.asked(Told::Look(edge)).unwrap_or_default()
    }

    /// What their allocators have handed out; `None` where one does not say.
    pub(super) fn held_bytes(&mut self) -> Option<u64> {
        let said: Vec<Option<u64>> = self.asked(Told::Heap(true))?;
        if said.is_empty() { None } else { said.into_iter().sum() }
    }

    fn asked<T: DeserializeOwned>(&mut self, question: Told) -> Option<Vec<T>> {
        self.tell(question);
        let told = |pipe: &mut Piped| {
            let line = pipe.line(now_ns() + PATIENCE_NS).ok()?;
            serde_json::from_slice(&line).ok()
        };
        self.running.iter_mut().map(told).collect()
    }

    /// Tells the targets when the trial starts, since stalls count from there.
    pub(super) fn start_at(&mut self, at_ns: u64) {
        self.tell(Told::StartAtNs(at_ns));
    }

    /// Ends the targets; each says what it was sent.
    pub(super) fn finish_digesting(mut self) -> anyhow::Result<Vec<digest::Report>> {
        self.running.iter_mut().for_each(Piped::close);
        let digest_of = |mut pipe: Piped| {
            let report = report_of(&mut pipe)?;
            pipe.finish();
            report.digest.context("the target kept no digest")
        };
        self.running.into_iter().map(digest_of).collect()
    }

    pub(super) fn finish(mut self) -> TargetsReport {
        if let Some(mut own) = self.own.take() {
            let processes = own.pids().count() as u32;
            let used = TargetUse { processes, ..TargetUse::default() };
            return TargetsReport { used, trouble: own.trouble(), ..TargetsReport::default() };
        }
        let report = ended(self.running.drain(..).collect());
        // Only when nobody calls it any more.
        let upstream = self.upstream.take().map(|pipe| ended(vec![pipe]));
        match upstream {
            Some(upstream) => TargetsReport {
                upstream: Some(upstream.used),
                trouble: report.trouble.or(upstream.trouble),
                ..report
            },
            None => report,
        }
    }
}

fn told(what: &str, job: &TargetJob) -> anyhow::Result<Piped> {
    let mut pipe = Piped::spawn(what, &["target", "--control"], &[])
        .map_err(|e| anyhow!("{what} could not be started: {e}"))?;
    let line = serde_json::to_vec(job).expect("a target's job is plain data");
    pipe.send_line(&line).map_err(|e| anyhow!("{what}: {e}"))?;
    Ok(pipe)
}

fn listening(pipe: &mut Piped) -> anyhow::Result<Listening> {
    let line = pipe.line(now_ns() + PATIENCE_NS).map_err(|e| explain(e, "listen"))?;
    serde_json::from_slice(&line)
        .map_err(|e| anyhow!("the target did not say where it listens: {e}"))
}

fn ended(mut running: Vec<Piped>) -> TargetsReport {
    let mut used: Option<TargetUse> = None;
    let mut trouble = None;
    running.iter_mut().for_each(Piped::close);
    for mut pipe in running {
        let one = match report_of(&mut pipe) {
            Ok(report) => {
                trouble = trouble.or(report.trouble);
                TargetUse {
                    processes: 1,
                    received: Some(report.received),
                    cpu_ns: Some(report.cpu_ns),
                    queue_ns_total: Some(report.queue_ns_total),
                    service_ns_total: Some(report.service_ns_total),
                    residence_ns_total: report.residence_ns_total,
                }
            }
            Err(why) => {
                trouble = Some(why.to_string());
                TargetUse { processes: 1, ..TargetUse::default() }
            }
        };
        match &mut used {
            Some(sum) => *sum += &one,
            None => used = Some(one),
        }
        pipe.finish();
    }
    TargetsReport { used: used.unwrap_or_default(), upstream: None, trouble }
}

fn report_of(pipe: &mut Piped) -> anyhow::Result<TargetReport> {
    let line = pipe.line(now_ns() + PATIENCE_NS).map_err(|e| explain(e, "report"))?;
    serde_json::from_slice(&line).map_err(|e| anyhow!("cannot parse the target's report: {e}"))
}

fn explain(e: NoLine, what: &str) -> anyhow::Error {
    match e {
        NoLine::Late => anyhow!("the target did not {what} within 10 s"),
        NoLine::Never(why) => anyhow!(why),
    }
}

/// 127.0.0.1, 127.0.0.2, … 127.0.0.250, 127.0.1.1, …: one address per target process.
fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, (number / 250) as u8, (number % 250 + 1) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_process_has_its_own_address() {
        let all: std::collections::HashSet<IpAddr> = (0..1000).map(address).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(IpAddr::is_loopback));
    }
}
