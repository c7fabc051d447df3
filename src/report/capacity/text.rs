//! A plan in words.

use std::fmt::Write;

use super::{EnginePlan, Need, Plan, req_s};
use crate::report::layout::clean;
use crate::units::{format_bytes, format_count, format_ns};

impl Plan {
    /// The plan for a terminal.
    pub fn text(&self) -> String {
        let q = &self.question;
        let mut out = format!(
            "{} on hosts of {} CPUs and {}",
            req_s(q.rate_per_s),
            q.cpus,
            format_bytes(q.memory_bytes as f64)
        );
        if let Some(p99) = q.p99_ns {
            let _ = write!(out, ", p99 ≤ {}", format_ns(p99 as f64));
        }
        out.push('\n');
        for engine in &self.engines {
            let _ = writeln!(out, "\n{}", clean(&engine.name));
            for line in engine.lines(q.spare) {
                let _ = writeln!(out, "  {line}");
            }
        }
        if self.engines.is_empty() {
            out.push_str("\nno trials: run the sweep first\n");
        }
        out.push_str("\nassumed\n");
        for assumption in &self.assumptions {
            let _ = writeln!(out, "  {assumption}");
        }
        out
    }
}

impl EnginePlan {
    /// The answer, one line each.
    pub fn lines(&self, spare: u32) -> Vec<String> {
        match &self.answer {
            Ok(need) => need.lines(spare),
            Err(refusal) => vec![
                format!("not answered: {}", refusal.why),
                format!("measure next: {}", refusal.measure_next),
            ],
        }
    }
}

impl Need {
    fn lines(&self, spare: u32) -> Vec<String> {
        let n = |n: u64| format_count(n);
        let binding = &self.resources[0];
        let mut lines = vec![
            format!(
                "{:.1} requests in flight at {} each; {} lanes",
                self.in_flight,
                format_ns(self.latency_ns),
                n(self.lanes.into())
            ),
            format!(
                "memory: {} user, {} kernel ({}); {} a lane",
                format_bytes(self.user_bytes),
                self.kernel_bytes.map_or_else(|| "unknown".into(), format_bytes),
                self.kernel_counts,
                format_bytes(self.bytes_per_lane)
            ),
            format!(
                "CPU: {:.2} CPUs busy, {} a request",
                self.cpus_busy,
                format_ns(self.cpu_per_request_ns)
            ),
            format!(
                "{} descriptors, {} ports, {} threads",
                n(self.descriptors),
                n(self.ports),
                n(self.threads)
            ),
            format!("binds first: {} at {} a host", binding.name, req_s(binding.allows_per_s)),
        ];
        let mut hosts = format!(
            "hosts: {} today ({:.0} % of what binds is left)",
            n(self.hosts_today),
            self.left * 100.0
        );
        let _ = write!(hosts, ", {} at {}", n(self.hosts_grown), req_s(self.grown_rate_per_s));
        let _ = write!(hosts, ", {} with {spare} to spare", n(self.hosts_with_spare));
        lines.push(hosts);
        let next: Vec<String> = self
            .resources
            .iter()
            .skip(1)
            .take(3)
            .map(|r| format!("{} ({:.0} % in use)", r.name, r.used * 100.0))
            .collect();
        lines.push(format!("then: {}", next.join(", ")));
        lines
    }
}
