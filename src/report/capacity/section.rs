//! A plan as a table, for the reports.

use super::{EnginePlan, Need, Plan, req_s};
use crate::report::layout::Column;
use crate::report::memory::Section;
use crate::units::{format_bytes, format_count, format_ns, plural};

impl Plan {
    /// One row per engine, with every refusal below; what it assumes is for the caller to show.
    pub fn section(&self) -> Section {
        let q = &self.question;
        let mut heading = format!(
            "{} on hosts of {} and {}",
            req_s(q.rate_per_s),
            plural(q.cpus.into(), "CPU"),
            format_bytes(q.memory_bytes as f64)
        );
        if let Some(p99) = q.p99_ns {
            heading.push_str(&format!(", p99 ≤ {}", format_ns(p99 as f64)));
        }
        let answered: Vec<(&EnginePlan, &Need)> =
            self.engines.iter().filter_map(|e| Some((e, e.answer.as_ref().ok()?))).collect();
        let columns = if answered.is_empty() { vec![] } else { self.columns(&answered) };
        let notes: Vec<String> = self
            .engines
            .iter()
            .filter_map(|e| {
                let refusal = e.answer.as_ref().err()?;
                let (why, next) = (&refusal.why, &refusal.measure_next);
                Some(format!("{}: no answer: {why}; measure next: {next}", e.name))
            })
            .collect();
        Section { heading, columns, notes }
    }

    fn columns(&self, answered: &[(&EnginePlan, &Need)]) -> Vec<Column> {
        let q = &self.question;
        let column = |title: &str, number, of: &dyn Fn(&EnginePlan, &Need) -> String| Column {
            title: title.into(),
            number,
            cells: answered.iter().map(|(e, n)| of(e, n)).collect(),
        };
        let count = |n: u64| format_count(n);
        let mut columns = vec![
            column("engine", false, &|e, _| e.name.clone()),
            column("in flight", true, &|_, n| format!("{:.1}", n.in_flight)),
            column("lanes", true, &|_, n| count(n.lanes.into())),
            column("memory\nuser", true, &|_, n| format_bytes(n.user_bytes)),
            column("memory\nkernel", true, &|_, n| {
                n.kernel_bytes.map_or_else(|| "unknown".into(), format_bytes)
            }),
            column("CPUs\nbusy", true, &|_, n| format!("{:.2}", n.cpus_busy)),
            column("descriptors", true, &|_, n| count(n.descriptors)),
            column("ports", true, &|_, n| count(n.ports)),
            column("threads", true, &|_, n| count(n.threads)),
            column("CPU\nper request", true, &|_, n| format_ns(n.cpu_per_request_ns)),
            column("first limit", false, &|_, n| n.first_limit(q.p99_ns.is_some())),
            column("hosts\ntoday", true, &|_, n| count(n.hosts_today)),
            column("used", true, &|_, n| format!("{:.0} %", 100.0 * (1.0 - n.left))),
        ];
        if q.growth_per_year != 0.0 {
            columns.push(column("hosts\ngrown", true, &|_, n| count(n.hosts_grown)));
        }
        if q.spare > 0 {
            columns.push(column("with\nspare", true, &|_, n| count(n.hosts_with_spare)));
        }
        columns
    }
}
