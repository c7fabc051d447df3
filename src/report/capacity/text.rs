//! A plan in words: the sentence that goes into a planning document, then what stands behind it.

use std::fmt::Write;

use super::{EnginePlan, Need, Plan, Question, REACH};
use crate::report::layout::{self, Section, clean};
use crate::report::table;
use crate::units::{format_ns, one_of, plural};

/// Other engines that the sentence names.
const MOST_OTHERS: usize = 3;

/// The cheapest answer in money where every answer has a price, or else in hosts; of equal ones that
/// which keeps fewer CPUs busy.
fn best(engines: &[EnginePlan]) -> Option<(&EnginePlan, &Need)> {
    let answered = || engines.iter().filter_map(|e| Some((e, e.answer.as_ref().ok()?)));
    let priced = answered().all(|(_, need)| need.cost.is_some());
    answered().min_by(|(_, a), (_, b)| {
        let cents = |need: &Need| need.cost.as_ref().filter(|_| priced).map(|c| c.total_cents);
        let by_hosts = a.hosts_with_spare.cmp(&b.hosts_with_spare);
        cents(a).cmp(&cents(b)).then(by_hosts).then(a.cpus_busy.total_cmp(&b.cpus_busy))
    })
}

/// `3 hosts, 240 EUR per month`.
fn hosts_and_money(need: &Need) -> String {
    let hosts = plural(need.hosts_with_spare, "host");
    match need.cost {
        Some(_) => format!("{hosts}, {} per month", need.text_of("total_cents")),
        None => hosts,
    }
}

/// Whose bound it is, where it is not that of all requests.
pub(super) fn of_class(q: &Question) -> String {
    q.class.as_ref().map_or(String::new(), |name| format!(" of class {name}"))
}

pub(super) fn sentence(
    q: &Question,
    questions: &[Question],
    engines: &[EnginePlan],
    is_service: bool,
) -> String {
    let Some((best, need)) = best(engines) else {
        return match engines.first().map(|e| &e.answer) {
            Some(Err(refusal)) => format!("No answer: {}.", refusal.why),
            _ => "No trials: run the sweep first.".into(),
        };
    };
    let host = questions.iter().map(|q| &q.host).find(|h| h.name == best.host).unwrap_or(&q.host);
    let hosts = plural(need.hosts_with_spare, "host");
    let service = if is_service { " for the service" } else { "" };
    let mut out = match host.name.is_empty() {
        true => format!("{hosts} ({}){service} with {}", host.words(), best.name),
        false => format!("{hosts} of {}{service} with {}", host.words(), best.name),
    };
    // Where all of them are for today's load, that they are is no news.
    if q.growth_per_year != 0.0 || q.spare > 0 {
        let _ = write!(out, ": {}", need.text_of("hosts_today"));
    }
    let _ = write!(out, " for {}", need.text_of("rate_per_s"));
    if let Some(p99) = q.p99_ns {
        let _ = write!(out, " at p99 ≤ {}", format_ns(p99 as f64));
        out += &of_class(q);
    }
    if q.growth_per_year != 0.0 {
        let (more, rate) = (need.text_of("hosts_for_growth"), need.text_of("grown_rate_per_s"));
        let by = need.text_of("grown_by");
        let _ = write!(out, ", {more} for growth to {rate} by {by}");
    }
    if q.spare > 0 {
        let _ = write!(out, ", {} spare", need.text_of("hosts_spare"));
    }
    let _ = write!(out, ". {}.", need.first_limit_sentence(q));
    if need.cost.is_some() {
        let (total, each) = (need.text_of("total_cents"), need.text_of("cents_per_million"));
        let _ = write!(out, " {total} per month, {each} per million requests.");
    }
    let same_host = engines.iter().filter(|e| e.host == best.host && e.name != best.name);
    let mut answers: Vec<(String, Vec<&str>)> = vec![];
    for other in same_host {
        let answer = match &other.answer {
            Ok(need) => hosts_and_money(need),
            Err(_) => "no answer from these data".into(),
        };
        match answers.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, names)) => names.push(&other.name),
            None => answers.push((answer, vec![&other.name])),
        }
    }
    for (answer, names) in answers.iter().take(MOST_OTHERS) {
        let _ = write!(out, " With {} instead of {}: {answer}.", one_of(names), best.name);
    }
    for other in engines.iter().filter(|e| e.name == best.name && e.host != best.host) {
        if let Ok(need) = &other.answer {
            let _ = write!(out, " On {} instead: {}.", other.host, hosts_and_money(need));
        }
    }
    clean(&out)
}

impl Plan {
    /// The plan for a terminal of `width` columns; `None` does not limit it.
    pub fn text(&self, width: Option<u16>) -> String {
        let wrapped = |out: &mut String, text: &str| {
            for line in crate::terminal::wrap(text, width) {
                let _ = writeln!(out, "{line}");
            }
        };
        let mut out = String::new();
        wrapped(&mut out, &self.sentence);
        let push = |out: &mut String, sections: &[Section]| {
            out.push_str(table::sections(sections, width).trim_start_matches('\n'));
        };
        if self.engines.iter().any(|e| e.answer.is_ok()) {
            out.push('\n');
            push(&mut out, &[self.decision()]);
        }
        for engine in &self.engines {
            let _ = writeln!(out, "\n{}", clean(&engine.words()));
            for line in engine.lines(&self.question, self.is_service) {
                wrapped(&mut out, &format!("  {line}"));
            }
        }
        for section in self.below() {
            out.push('\n');
            push(&mut out, &[section]);
        }
        out.push('\n');
        let deciding: Vec<_> = self.assumptions.iter().filter(|a| a.decides).collect();
        if !deciding.is_empty() {
            out.push_str("assuming that\n");
        }
        for assumption in deciding {
            wrapped(&mut out, &format!("- {assumption}"));
        }
        wrapped(&mut out, "The other assumptions are defaults; --markdown lists all of them.");
        out
    }
}

impl EnginePlan {
    fn lines(&self, q: &Question, is_service: bool) -> Vec<String> {
        match &self.answer {
            Ok(need) => need.lines(q, is_service),
            Err(refusal) => vec![
                format!("no answer: {}", refusal.why),
                format!("measure next: {}", refusal.measure_next),
            ],
        }
    }
}

impl Need {
    /// Whether the first limit lies inside the data.
    fn is_limited(&self) -> bool {
        self.resources[0].allows_per_s.is_some_and(|allows| allows < self.tested_to_per_s)
    }

    pub(super) fn first_limit(&self, is_bound: bool) -> String {
        let first = &self.resources[0];
        let rate = self.text_of("host_rate_per_s");
        match is_bound {
            _ if self.is_limited() => format!("{} at {rate} per host", first.name),
            true => format!("{} is only tested up to {rate} per host", first.name),
            false => format!("none up to {rate} per host, {REACH} × measured"),
        }
    }

    /// The same with how much of it is used.
    fn first_limit_sentence(&self, q: &Question) -> String {
        let first = &self.resources[0];
        let used = self.text_of(&format!("used: {}", first.name));
        if self.is_limited() && first.planned < 1.0 {
            let planned = self.text_of(&format!("planned: {}", first.name));
            return format!(
                "{} is the first limit ({used} used, {planned} planned)",
                layout::capital(&first.name)
            );
        }
        if q.p99_ns.is_none() && !self.is_limited() {
            let rate = self.text_of("host_rate_per_s");
            return format!(
                "No limit is reached up to {rate} per host, {REACH} × the highest measured rate \
                 ({used} used)"
            );
        }
        let limit = self.first_limit(q.p99_ns.is_some());
        format!("First limit: {limit} ({used} used)")
    }

    fn hosts(&self, q: &Question) -> String {
        let mut hosts = format!("hosts: {} today", self.text_of("hosts_today"));
        if q.growth_per_year != 0.0 {
            let (grown, hosts_grown) =
                (self.text_of("grown_rate_per_s"), self.text_of("hosts_grown"));
            let _ = write!(hosts, ", {hosts_grown} after growth to {grown}");
        }
        if q.spare > 0 {
            let lost = plural(u64::from(q.spare), "host");
            let _ = write!(hosts, ", {} to survive the loss of {lost}", self.text_of("hosts"));
        }
        hosts
    }

    fn lines(&self, q: &Question, is_service: bool) -> Vec<String> {
        let (group, lane, lanes, process) = match is_service {
            true => ("server", "connection", "connections", "server"),
            false => ("group of workers", "lane", "lanes", "worker"),
        };
        let t = |name: &str| self.text_of(name).to_string();
        let from = |name: &str| self.from(name).join(" and ");
        let next: Vec<String> = self.resources[1..]
            .iter()
            .take(3)
            .map(|r| format!("{} ({} used)", r.name, t(&format!("used: {}", r.name))))
            .collect();
        let mut lines = vec![
            self.hosts(q),
            format!("first limit: {}", self.first_limit(q.p99_ns.is_some())),
            format!("next limits: {}", next.join(", ")),
        ];
        if let Some(reached) = self.reached() {
            lines.push(format!("today's hosts are used up: {reached}"));
        }
        if self.cost.is_some() {
            lines.push(format!(
                "money per month: {} = {} today + {} growth + {} spare, at {} per host",
                t("total_cents"),
                t("today_cents"),
                t("growth_cents"),
                t("spare_cents"),
                t("host_cents")
            ));
        }
        lines.extend([
            format!(
                "CPU: {} CPUs busy, {} per request at {} per {group} (from {})",
                t("cpus_busy"),
                t("cpu_per_request_ns"),
                t("group_rate_per_s"),
                from("cpu_per_request_ns")
            ),
            format!(
                "{} requests in flight at {} each; {} {lanes}",
                t("in_flight"),
                t("latency_ns"),
                t("lanes")
            ),
            self.memory(lane, lanes, process),
            match is_service {
                true => format!("{} descriptors, {} threads", t("descriptors"), t("threads")),
                false => format!(
                    "{} descriptors, {} ports, {} threads",
                    t("descriptors"),
                    t("ports"),
                    t("threads")
                ),
            },
            format!(
                "{} up to {} per host ({})",
                if q.p99_ns.is_some() { "tested" } else { "planned" },
                t("tested_to_per_s"),
                from("tested_to_per_s")
            ),
        ]);
        lines
    }

    fn memory(&self, lane: &str, lanes: &str, process: &str) -> String {
        let copies = plural(self.processes, process);
        let slope = match self.bytes_per_lane > 0.0 {
            true => format!(
                "{} per {lane}, and what {copies} take before any",
                self.text_of("bytes_per_lane")
            ),
            // One lane count has no slope: its memory with all lanes is planned.
            false => format!("{copies} as large as the one measured, all its {lanes} included"),
        };
        let kernel = self.kernel_bytes.map_or("unknown", |_| self.text_of("kernel_bytes"));
        let (user, counts) = (self.text_of("user_bytes"), &self.kernel_counts);
        format!("memory: {user} user, {kernel} kernel ({counts}); {slope}")
    }

    /// When each limit is used up by today's hosts, the first first; `None` without growth.
    pub(super) fn reached(&self) -> Option<String> {
        let mut all: Vec<(f64, String)> = (self.resources.iter())
            .filter_map(|r| {
                let text = self.text_of(&format!("reached: {}", r.name));
                Some((r.reached_in_months?, format!("{} {text}", r.name)))
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}
