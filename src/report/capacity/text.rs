//! A plan in words: the sentence that goes into a planning document, then what stands behind it.

use super::{EnginePlan, Need, Plan, Question, REACH, Resource};
use crate::report::layout::{self, clean};
use crate::report::table;
use crate::terminal::wrap;
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
    let money = need.cost.as_ref().map(|_| need.say(", {total_cents} per month"));
    plural(need.hosts_with_spare, "host") + &money.unwrap_or_default()
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
        out += &need.say(": {hosts_today}");
    }
    out += &need.say(" for {rate_per_s}");
    if let Some(p99) = q.p99_ns {
        out += &format!(" at p99 ≤ {}{}", format_ns(p99 as f64), of_class(q));
    }
    if q.growth_per_year != 0.0 {
        out += &need.say(", {hosts_for_growth} for growth to {grown_rate_per_s} by {grown_by}");
    }
    if q.spare > 0 {
        out += &need.say(", {hosts_spare} spare");
    }
    out += &format!(". {}.", need.first_limit_sentence(q));
    if need.cost.is_some() {
        out += &need.say(" {total_cents} per month, {cents_per_million} per million requests.");
    }
    let mut answers: Vec<(String, Vec<&str>)> = vec![];
    for other in engines.iter().filter(|e| e.host == best.host && e.name != best.name) {
        let answer = other.answer.as_ref().map(hosts_and_money);
        let answer = answer.unwrap_or("no answer from these data".into());
        match answers.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, names)) => names.push(&other.name),
            None => answers.push((answer, vec![&other.name])),
        }
    }
    for (answer, names) in answers.iter().take(MOST_OTHERS) {
        out += &format!(" With {} instead of {}: {answer}.", one_of(names), best.name);
    }
    for other in engines.iter().filter(|e| e.name == best.name && e.host != best.host) {
        if let Ok(need) = &other.answer {
            out += &format!(" On {} instead: {}.", other.host, hosts_and_money(need));
        }
    }
    clean(&out)
}

impl Plan {
    /// The plan for a terminal of `width` columns; `None` does not limit it.
    pub fn text(&self, width: Option<u16>) -> String {
        let wrapped = |text: &str| -> String {
            wrap(text, width).into_iter().map(|line| line + "\n").collect()
        };
        let mut out = wrapped(&self.sentence);
        out += &table::sections(&self.in_lines(), width);
        out.push('\n');
        let deciding: Vec<_> = self.assumptions.iter().filter(|a| a.decides).collect();
        if !deciding.is_empty() {
            out.push_str("assuming that\n");
        }
        out.extend(deciding.into_iter().map(|assumption| wrapped(&format!("- {assumption}"))));
        out + &wrapped("The other assumptions are defaults; --markdown lists all of them.")
    }
}

impl Need {
    /// A text with the figures in place of the names in braces.
    fn say(&self, text: &str) -> String {
        let part = |(i, part)| if i % 2 == 1 { self.text_of(part) } else { part };
        text.split(['{', '}']).enumerate().map(part).collect()
    }

    /// Whether the first limit lies inside the data.
    fn is_limited(&self) -> bool {
        self.resources[0].allows_per_s.is_some_and(|allows| allows < self.tested_to_per_s)
    }

    pub(super) fn first_limit(&self, is_bound: bool) -> String {
        let (first, rate) = (&self.resources[0].name, self.text_of("host_rate_per_s"));
        match is_bound {
            _ if self.is_limited() => format!("{first} at {rate} per host"),
            true => format!("{first} is only tested up to {rate} per host"),
            false => format!("none up to {rate} per host, {REACH} × measured"),
        }
    }

    /// The same with how much of it is used.
    fn first_limit_sentence(&self, q: &Question) -> String {
        let Resource { name, planned, .. } = &self.resources[0];
        let used = self.text_of(&format!("used: {name}"));
        if self.is_limited() && *planned < 1.0 {
            let planned = self.text_of(&format!("planned: {name}"));
            let first = layout::capital(name);
            return format!("{first} is the first limit ({used} used, {planned} planned)");
        }
        if q.p99_ns.is_none() && !self.is_limited() {
            let said = self.say("No limit is reached up to {host_rate_per_s} per host");
            return format!("{said}, {REACH} × the highest measured rate ({used} used)");
        }
        format!("First limit: {} ({used} used)", self.first_limit(q.p99_ns.is_some()))
    }

    fn hosts(&self, q: &Question) -> String {
        let mut hosts = self.say("hosts: {hosts_today} today");
        if q.growth_per_year != 0.0 {
            hosts += &self.say(", {hosts_grown} after growth to {grown_rate_per_s}");
        }
        if q.spare > 0 {
            let lost = plural(u64::from(q.spare), "host");
            hosts += &format!("{} the loss of {lost}", self.say(", {hosts} to survive"));
        }
        hosts
    }

    /// What stands behind an answer, a line each.
    pub(super) fn lines(&self, q: &Question, is_service: bool) -> Vec<String> {
        let (group, lanes) = match is_service {
            true => ("server", "connections"),
            false => ("group of workers", "lanes"),
        };
        let from = |name: &str| self.from(name).join(" and ");
        let used = |r: &Resource| self.say(&format!("{} ({{used: {}}} used)", r.name, r.name));
        let next: Vec<String> = self.resources[1..].iter().take(3).map(used).collect();
        let mut lines = vec![
            self.hosts(q),
            format!("first limit: {}", self.first_limit(q.p99_ns.is_some())),
            format!("next limits: {}", next.join(", ")),
        ];
        lines.extend(self.reached().map(|reached| format!("today's hosts are used up: {reached}")));
        lines.extend(self.cost.as_ref().map(|_| {
            self.say(
                "money per month: {total_cents} = {today_cents} today + {growth_cents} growth + \
                 {spare_cents} spare, at {host_cents} per host",
            )
        }));
        let cpu =
            "CPU: {cpus_busy} CPUs busy, {cpu_per_request_ns} per request at {group_rate_per_s}";
        let held = self.say("{in_flight} requests in flight at {latency_ns} each; {lanes}");
        let ports = if is_service { "" } else { " {ports} ports," };
        let reach = if q.p99_ns.is_some() { "tested" } else { "planned" };
        lines.extend([
            format!("{} per {group} (from {})", self.say(cpu), from("cpu_per_request_ns")),
            format!("{held} {lanes}"),
            self.memory(is_service),
            self.say(&format!("{{descriptors}} descriptors,{ports} {{threads}} threads")),
            self.say(&format!("{reach} up to {{tested_to_per_s}} per host ("))
                + &format!("{})", from("tested_to_per_s")),
        ]);
        lines
    }

    fn memory(&self, is_service: bool) -> String {
        let (lane, process) =
            if is_service { ("connection", "server") } else { ("lane", "worker") };
        let copies = plural(self.processes, process);
        let slope = match self.bytes_per_lane > 0.0 {
            true => {
                let each = self.text_of("bytes_per_lane");
                format!("{each} per {lane}, and what {copies} take before any")
            }
            // One lane count has no slope: its memory with all lanes is planned.
            false => format!("{copies} as large as the one measured, all its {lane}s included"),
        };
        let kernel = self.kernel_bytes.map_or("unknown", |_| self.text_of("kernel_bytes"));
        let (user, counts) = (self.text_of("user_bytes"), &self.kernel_counts);
        format!("memory: {user} user, {kernel} kernel ({counts}); {slope}")
    }

    /// When each limit is used up by today's hosts, the first first; `None` without growth.
    pub(super) fn reached(&self) -> Option<String> {
        let month = |r: &Resource| {
            let text = self.text_of(&format!("reached: {}", r.name));
            Some((r.reached_in_months?, format!("{} {text}", r.name)))
        };
        let mut all: Vec<(f64, String)> = self.resources.iter().filter_map(month).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}
