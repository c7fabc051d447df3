//! One host at a rate: what it uses of each resource, and how many of it a rate needs.

use super::curve::{AtRate, Curve};
use super::fits::{MemoryLines, Series};
use super::hosts::{MONTH_HOURS, format_money};
use super::need::{Shown, Source};
use super::{
    CapacityRefusal, Cost, Figure, MAY_WAIT, MOST_HOSTS, Need, Question, REACH, Resource,
    ResourceKind, Suggestion, budget, count, erlang, refuse, req_s,
};
use crate::limits::Ceiling;
use crate::units::{format_bytes, format_ns, format_share};

struct Host<'a> {
    q: &'a Question,
    series: &'a Series<'a>,
    curve: Curve<'a>,
    memory: MemoryLines,
    ceilings: &'a [Ceiling],
    /// Copies of the measured cell's workers on one host.
    groups: f64,
    workers: f64,
}

struct Load {
    at: AtRate,
    lanes: f64,
    /// In a fixed order; how much each allows is not known yet.
    used: Vec<Resource>,
}

/// A resource of whose planned share so much is used.
fn resource(kind: ResourceKind, name: String, used: f64, planned: f64) -> Resource {
    Resource { name, kind, allows_per_s: None, used, planned, reached_in_months: None }
}

impl Host<'_> {
    fn at(&self, rate_per_s: f64) -> Load {
        let at = self.curve.at(rate_per_s / self.groups);
        let latency_ns = self.q.latency_ns.map_or(at.latency_ns, |ns| ns as f64);
        let in_flight = rate_per_s * latency_ns / 1e9;
        let fewest = erlang::lanes_for(in_flight, MAY_WAIT).map_or(f64::INFINITY, f64::from);
        let held = self.q.connections.map_or(0.0, |all| all * rate_per_s / self.q.rate_per_s);
        let lanes = fewest.max(held);
        let at = AtRate { latency_ns, ..at };
        let (host, q) = (&self.q.host, self.q);
        let cpu = self.groups * at.busy / f64::from(host.cpus);
        let bytes = self.workers * self.memory.fixed_bytes() + lanes * self.memory.per_lane_bytes();
        let used = |kind, name: &str, of_all: f64, planned: f64| {
            resource(kind, name.into(), of_all / planned, planned)
        };
        let full = bytes / host.memory_bytes as f64;
        let mut all = vec![
            used(ResourceKind::Cpu, "CPU", cpu, q.cpu_target),
            used(ResourceKind::Memory, "memory", full, q.memory_target),
        ];
        for ceiling in self.ceilings.iter().filter(|c| !c.is_memory_estimate()) {
            // What is counted per worker is there once more for every further worker of the host.
            let each = if ceiling.is_per_worker() { self.workers } else { 1.0 };
            let most = match host.limits.get(&ceiling.limit) {
                Some(have) => have.saturating_sub(ceiling.before_lanes) / ceiling.per_lane.max(1),
                None => ceiling.most_lanes,
            };
            let held = lanes / (most as f64 * each);
            all.push(used(ResourceKind::System, &ceiling.limit, held, 1.0));
        }
        Load { at, lanes, used: all }
    }

    /// Highest rate up to which the data reach: what met the bound on p99, or else [`REACH`] times
    /// what was measured.
    fn end_per_s(&self) -> f64 {
        let beyond = if self.q.p99_ns.is_some() { 1.0 } else { REACH };
        self.groups * self.curve.end_per_s() * beyond
    }

    /// Rate at which a resource is used up; `None` beyond the end of the data.
    fn allows(&self, resource: usize) -> Option<f64> {
        let used = |rate: f64| self.at(rate).used[resource].used;
        let (mut low, mut high) = (0.0, self.end_per_s());
        if used(high) <= 1.0 {
            return None;
        }
        // Halved until the last place of what is printed is sure.
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if used(middle) <= 1.0 { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// Whether so high a rate lies beyond the data, where no bound is a reason for more hosts.
    fn reaches(&self, most_per_s: f64, host_rate_per_s: f64) -> Result<(), CapacityRefusal> {
        let end = self.end_per_s();
        if host_rate_per_s < end || most_per_s <= end || self.q.p99_ns.is_some() {
            return Ok(());
        }
        let each = most_per_s / self.groups;
        let rates = vec![(each / 2.0).ceil(), each.ceil()];
        refuse(
            format!(
                "each {} {}; this run measured up to {}",
                match self.series.cell.tests_server() {
                    true => "server would have to answer",
                    false => "group of workers would have to send",
                },
                req_s(each),
                req_s(end / REACH / self.groups)
            ),
            format!("sweep rates = [{:.0}, {:.0}], or name a bound with --p99", rates[0], rates[1]),
            Some(Suggestion::Rates(rates)),
        )
    }
}

/// What a question needs of hosts that run a series.
pub(super) fn answer(
    series: &Series<'_>,
    q: &Question,
    ceilings: &[Ceiling],
) -> Result<Need, CapacityRefusal> {
    let curve = series.curve(q.p99_ns)?;
    let memory = series.memory()?;
    let groups = f64::from((q.host.cpus / series.cpus).max(1));
    let workers = groups * f64::from(series.processes);
    let host = Host { q, series, curve, memory, ceilings, groups, workers };
    let empty = host.at(0.0);
    if let Some(used) = empty.used.iter().find(|used| used.used >= 1.0) {
        return refuse(
            format!("a host has no room for a single lane: {} is used up", used.name),
            "ask for hosts with more of it",
            None,
        );
    }
    let allows: Vec<Option<f64>> = (0..empty.used.len()).map(|i| host.allows(i)).collect();
    let grown_rate_per_s = q.rate_in(q.months);
    let most = q.rate_per_s.max(grown_rate_per_s);
    let host_rate_per_s = allows.iter().flatten().copied().fold(host.end_per_s(), f64::min);
    host.reaches(most, host_rate_per_s)?;
    let hosts = |rate: f64| {
        Some((rate / host_rate_per_s).ceil().max(1.0) as u64).filter(|hosts| *hosts <= MOST_HOSTS)
    };
    let (Some(hosts_today), Some(hosts_grown)) = (hosts(q.rate_per_s), hosts(most)) else {
        return refuse(
            format!("{} would take more than a million hosts", req_s(most)),
            "ask for a lower rate",
            None,
        );
    };
    let load = host.at(q.rate_per_s / hosts_today as f64);
    series.reaches(load.lanes / workers)?;
    let mut need = host.need(load, &allows, host_rate_per_s, (hosts_today, hosts_grown));
    need.figures = host.figures(&need);
    Ok(need)
}

impl Host<'_> {
    fn need(
        &self,
        load: Load,
        allows: &[Option<f64>],
        host_rate_per_s: f64,
        (hosts_today, hosts_grown): (u64, u64),
    ) -> Need {
        let (q, series, memory, hosts) = (self.q, self.series, &self.memory, hosts_today as f64);
        let lanes = (load.lanes * hosts) as u32;
        let processes = (self.workers * hosts) as u64;
        let resources = self.resources(load.used, allows, hosts);
        let rate_per_s = q.rate_per_s / hosts;
        let threads_of_lanes = if series.threads_grow() { u64::from(lanes) } else { 0 };
        let hosts_with_spare = hosts_grown + u64::from(q.spare);
        Need {
            latency_ns: load.at.latency_ns,
            in_flight: q.rate_per_s * load.at.latency_ns / 1e9,
            lanes,
            user_bytes: memory.user.at(lanes, self.workers * hosts),
            kernel_bytes: memory.kernel.map(|k| k.at(lanes, self.workers * hosts)),
            kernel_counts: memory.kernel_counts,
            bytes_per_lane: memory.per_lane_bytes(),
            cpus_busy: self.groups * load.at.busy * hosts,
            cpu_per_request_ns: self.groups * load.at.busy * 1e9 / rate_per_s,
            descriptors: u64::from(lanes) + series.other_fds * processes,
            ports: if series.cell.tests_server() { 0 } else { u64::from(lanes) },
            threads: threads_of_lanes + series.other_threads * processes,
            processes,
            group_rate_per_s: rate_per_s / self.groups,
            tested_to_per_s: self.end_per_s(),
            resources,
            host_rate_per_s,
            hosts_today,
            grown_rate_per_s: q.rate_in(q.months),
            hosts_grown,
            hosts_with_spare,
            cost: self.cost(hosts_today, hosts_grown),
            budgets: budget::budgets(q, &series.points(&load.at.cells)),
            curve: self.curve.points(rate_per_s / self.groups, &load.at),
            figures: vec![],
        }
    }

    fn resources(&self, used: Vec<Resource>, allows: &[Option<f64>], hosts: f64) -> Vec<Resource> {
        let (q, end) = (self.q, self.end_per_s());
        let monthly = (1.0 + q.growth_per_year).ln() / 12.0;
        let reached = |allows: f64| {
            let months = (allows * hosts / q.rate_per_s).ln() / monthly;
            (monthly > 0.0).then_some(months.max(0.0))
        };
        let name = match q.p99_ns {
            Some(ns) => format!("p99 ≤ {}", format_ns(ns as f64)),
            None => "the measured range".into(),
        };
        let data = resource(ResourceKind::Data, name, q.rate_per_s / hosts / end, 1.0);
        let allows = allows.iter().copied().chain([Some(end)]);
        let mut resources: Vec<Resource> = (used.into_iter().chain([data]).zip(allows))
            .map(|(resource, allows_per_s)| Resource {
                allows_per_s,
                reached_in_months: allows_per_s.and_then(reached),
                ..resource
            })
            .collect();
        let order = |r: &Resource| (r.allows_per_s.unwrap_or(f64::INFINITY), -r.used);
        resources.sort_by(|a, b| {
            let ((x, u), (y, v)) = (order(a), order(b));
            x.total_cmp(&y).then(u.total_cmp(&v))
        });
        resources
    }

    fn cost(&self, today: u64, grown: u64) -> Option<Cost> {
        let price = self.q.host.price.as_ref()?;
        let (each, spare) = (price.month_cents(), u64::from(self.q.spare));
        let total_cents = each * (grown + spare);
        let millions = self.q.rate_per_s * (MONTH_HOURS * 3_600) as f64 / 1e6;
        Some(Cost {
            currency: price.currency.clone(),
            host_cents: each,
            today_cents: each * today,
            growth_cents: each * (grown - today),
            spare_cents: each * spare,
            total_cents,
            cents_per_million: total_cents as f64 / millions,
        })
    }
}

/// A figure with all that it comes from, ids of cells and names of switches, each named once.
fn figure(name: &str, value: f64, text: String, from: &[&[String]]) -> Figure {
    let mut all: Vec<String> = Vec::new();
    for source in from.iter().copied().flatten() {
        if !all.contains(source) {
            all.push(source.clone());
        }
    }
    Figure::new(name, value, text, all)
}

impl Host<'_> {
    /// Every number of a need that is shown, with what it comes from: the measured cells, those on
    /// either side of the planned rate, the one up to whose rate the data reach, and what was asked.
    fn figures(&self, need: &Need) -> Vec<Figure> {
        let q = self.q;
        let asked = |switch: &str| vec![switch.to_string()];
        let (all, at) = (&self.series.ids()[..], &self.curve.at(need.group_rate_per_s).cells[..]);
        let end = &[self.curve.end_cell().to_string()][..];
        let (rate, spare) = (&asked("--rate")[..], &asked("--spare")[..]);
        let types = &asked("--hosts")[..];
        let given = asked("--latency");
        let latency = if q.latency_ns.is_some() { &given[..] } else { at };
        let hosts = &[all, end, rate, types].concat()[..];
        let growth = &["--rate", "--growth", "--months"].map(String::from)[..];
        let sizes = &["--cpus", "--hosts"].map(String::from)[..];
        let from = |source: &Source| match source {
            Source::Cells => all,
            Source::Beside => at,
            Source::End => end,
            Source::Latency => latency,
            Source::Hosts => hosts,
            Source::Types => types,
            Source::Sizes => sizes,
            Source::Rate => rate,
            Source::Growth => growth,
            Source::Spare => spare,
        };
        let for_growth = (need.hosts_grown - need.hosts_today) as f64;
        let beside: [Shown; 4] = [
            (
                "hosts",
                need.hosts_with_spare as f64,
                count,
                &[Source::Hosts, Source::Growth, Source::Spare],
            ),
            ("hosts_for_growth", for_growth, count, &[Source::Hosts, Source::Growth]),
            ("hosts_spare", q.spare.into(), count, &[Source::Spare]),
            ("rate_per_s", q.rate_per_s, req_s, &[Source::Rate]),
        ];
        let kernel = |bytes| -> Shown { ("kernel_bytes", bytes, format_bytes, &[Source::Cells]) };
        let kernel = need.kernel_bytes.map(kernel);
        let shown = need.shown().into_iter().chain(beside).chain(kernel);
        let mut figures: Vec<Figure> = shown
            .map(|(name, value, text, sources)| {
                let from: Vec<&[String]> = sources.iter().map(from).collect();
                figure(name, value, text(value), &from)
            })
            .collect();
        figures.push(figure("grown_by", q.months, q.month_in(q.months), &[growth]));
        for r in &need.resources {
            let (from, switch) = match r.kind {
                ResourceKind::Cpu => (at, Some("--cpu-target")),
                ResourceKind::Memory => (all, Some("--memory-target")),
                ResourceKind::System => (latency, Some("limits of plan.json")),
                ResourceKind::Data => (end, None),
            };
            let from = [from, &switch.map_or(vec![], asked)].concat();
            figures.extend(figures_of(q, r, &from, growth));
        }
        let from = [hosts, &asked("price of --hosts")].concat();
        figures.extend(need.cost.iter().flat_map(|cost| money(cost, &from)));
        figures
    }
}

fn figures_of(q: &Question, r: &Resource, from: &[String], growth: &[String]) -> Vec<Figure> {
    let (used, planned) = (r.used * r.planned, r.planned);
    let shown = [
        ("used", Some(used), format!("{:.0} %", used * 100.0), &[from][..]),
        ("planned", Some(planned), format_share(planned), &[from]),
        ("allows", r.allows_per_s, r.allows_per_s.map(req_s).unwrap_or_default(), &[from]),
        (
            "reached",
            r.reached_in_months,
            r.reached_in_months.map(|months| q.month_in(months)).unwrap_or_default(),
            &[from, growth],
        ),
    ];
    let one = |(what, value, text, from): (&str, Option<f64>, String, &[&[String]])| {
        Some(figure(&format!("{what}: {}", r.name), value?, text, from))
    };
    shown.into_iter().filter_map(one).collect()
}

fn money(cost: &Cost, from: &[String]) -> Vec<Figure> {
    let from = &[from];
    let whole = [
        ("host_cents", cost.host_cents),
        ("today_cents", cost.today_cents),
        ("growth_cents", cost.growth_cents),
        ("spare_cents", cost.spare_cents),
        ("total_cents", cost.total_cents),
    ];
    let whole =
        whole.map(|(name, n)| figure(name, n as f64, format_money(n, &cost.currency), from));
    // A fraction of a cent is no amount to add up: four decimals of the unit.
    let each = cost.cents_per_million;
    let text = format!("{:.4} {}", each / 100.0, cost.currency);
    whole.into_iter().chain([figure("cents_per_million", each, text, from)]).collect()
}
