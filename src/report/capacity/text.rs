//! A plan in words.

use std::fmt::Write;

use super::{EnginePlan, Need, Plan, Question, req_s};
use crate::report::layout::clean;
use crate::units::{format_bytes, format_count, format_ns, plural};

impl Plan {
    /// The plan for a terminal.
    pub fn text(&self) -> String {
        let q = &self.question;
        let mut out = format!(
            "{} on hosts of {} and {}",
            req_s(q.rate_per_s),
            plural(q.cpus.into(), "CPU"),
            format_bytes(q.memory_bytes as f64)
        );
        if let Some(p99) = q.p99_ns {
            let _ = write!(out, ", p99 ≤ {}", format_ns(p99 as f64));
        }
        out.push('\n');
        for engine in &self.engines {
            let _ = writeln!(out, "\n{}", clean(&engine.name));
            for line in engine.lines(q) {
                let _ = writeln!(out, "  {line}");
            }
        }
        if self.engines.is_empty() {
            out.push_str("\nno trials: run the sweep first\n");
        }
        out.push_str("\nassuming that\n");
        for assumption in &self.assumptions {
            let _ = writeln!(out, "  {assumption}");
        }
        out
    }
}

impl EnginePlan {
    /// The answer, one line each.
    fn lines(&self, q: &Question) -> Vec<String> {
        match &self.answer {
            Ok(need) => need.lines(q),
            Err(refusal) => vec![
                format!("no answer: {}", refusal.why),
                format!("measure next: {}", refusal.measure_next),
            ],
        }
    }
}

impl Need {
    /// The first limit of a host in words.
    pub(super) fn first_limit(&self, is_bound: bool) -> String {
        let first = &self.resources[0];
        let rate = req_s(self.host_rate_per_s);
        match first.allows_per_s {
            Some(allows) if allows < self.tested_to_per_s => {
                format!("{} at {rate} per host", first.name)
            }
            _ if is_bound => format!("{} is only tested up to {rate} per host", first.name),
            _ => format!("none within the data, which reach to {rate} per host"),
        }
    }

    /// Hosts today, after growth and with spares.
    fn hosts(&self, q: &Question) -> String {
        let n = |n: u64| format_count(n);
        let used = 100.0 * (1.0 - self.left);
        let mut hosts = format!("hosts: {} today ({used:.0} % used)", n(self.hosts_today));
        if self.grown_rate_per_s != q.rate_per_s {
            let grown = req_s(self.grown_rate_per_s);
            let _ = write!(hosts, ", {} after growth to {grown}", n(self.hosts_grown));
        }
        if q.spare > 0 {
            let lost = plural(u64::from(q.spare), "host");
            let _ = write!(hosts, ", {} to survive the loss of {lost}", n(self.hosts_with_spare));
        }
        hosts
    }

    fn lines(&self, q: &Question) -> Vec<String> {
        let n = |n: u64| format_count(n);
        let from = |what: &str| self.sources.get(what).map_or(String::new(), |c| c.join(" and "));
        let next: Vec<String> = self.resources[1..]
            .iter()
            .take(3)
            .map(|r| format!("{} ({:.0} % used)", r.name, r.used * 100.0))
            .collect();
        vec![
            self.hosts(q),
            format!("first limit: {}", self.first_limit(q.p99_ns.is_some())),
            format!("next limits: {}", next.join(", ")),
            format!(
                "CPU: {:.2} CPUs busy, {} per request at {} per group of workers (from {})",
                self.cpus_busy,
                format_ns(self.cpu_per_request_ns),
                req_s(self.group_rate_per_s),
                from("cpu_per_request_ns")
            ),
            format!(
                "{:.1} requests in flight at {} each; {} lanes",
                self.in_flight,
                format_ns(self.latency_ns),
                n(self.lanes.into())
            ),
            format!(
                "memory: {} user, {} kernel ({}); {} per lane, and what {} take before any lane",
                format_bytes(self.user_bytes),
                self.kernel_bytes.map_or_else(|| "unknown".into(), format_bytes),
                self.kernel_counts,
                format_bytes(self.bytes_per_lane),
                plural(self.processes, "worker")
            ),
            format!(
                "{} descriptors, {} ports, {} threads",
                n(self.descriptors),
                n(self.ports),
                n(self.threads)
            ),
        ]
    }
}
