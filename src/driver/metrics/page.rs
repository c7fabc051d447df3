//! What a scrape shows: the state of the run as families of labelled values.

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{Buckets, MetricsState, OfCell, bounds_ns, lock};
use crate::format::ErrorKind;
use crate::side::counters::Counts;
use crate::units::SECOND_NS;

#[derive(Debug)]
pub(super) struct View(pub(super) Arc<Mutex<MetricsState>>);

type Labels = Vec<(&'static str, String)>;

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state = lock(&self.0);
        let mut out = Out(&mut encoder);
        state.run(&mut out)?;
        state.requests(&mut out)?;
        state.live(&mut out)?;
        state.times(&mut out)
    }
}

struct Out<'o, 'e>(&'o mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn family(
        &mut self,
        (name, help): (&str, &str),
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            let mut row = family.encode_family(&labels)?;
            match kind {
                // Counts stay whole numbers.
                MetricType::Counter if value.fract() == 0.0 => {
                    row.encode_counter::<NoLabelSet, u64, f64>(&(value as u64), None)?;
                }
                MetricType::Counter => {
                    row.encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
                }
                _ => row.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

impl MetricsState {
    fn run(&self, out: &mut Out) -> fmt::Result {
        let facts = &self.facts;
        let labels = vec![
            ("name", facts.name.clone()),
            ("plan_hash", facts.plan_hash.clone()),
            ("shard", facts.shard.clone()),
            ("version", env!("CARGO_PKG_VERSION").into()),
        ];
        out.family(("duel_run_info", "The run."), MetricType::Gauge, [(labels, 1.0)])?;
        out.family(
            ("duel_trials_planned", "Trials of the run, repeats of noisy ones aside."),
            MetricType::Gauge,
            [(vec![], facts.trials as f64)],
        )?;
        let trials =
            self.statuses.iter().map(|(s, n)| (vec![("status", s.to_string())], *n as f64));
        out.family(("duel_trials", "Trials that ended."), MetricType::Counter, trials)
    }

    fn phases(&self) -> impl Iterator<Item = (&String, &'static str, Counts)> {
        self.cells.iter().flat_map(|(id, cell)| {
            ["warmup", "measured"].into_iter().enumerate().map(move |(at, phase)| {
                let (ended, now) = (&cell.ended[at], &cell.now[at]);
                (id, phase, [*ended, *now].into_iter().sum())
            })
        })
    }

    fn requests(&self, out: &mut Out) -> fmt::Result {
        let label = |id: &String, phase: &str| vec![("cell", id.clone()), ("phase", phase.into())];
        let started = self.phases().map(|(id, phase, c)| (label(id, phase), c.started as f64));
        out.family(("duel_requests_started", "Requests started."), MetricType::Counter, started)?;
        let ended = self.phases().flat_map(|(id, phase, c)| {
            [("completed", c.completed), ("failed", c.failed), ("timed_out", c.timed_out)].map(
                |(outcome, n)| {
                    let mut labels = label(id, phase);
                    labels.push(("outcome", outcome.into()));
                    (labels, n as f64)
                },
            )
        });
        out.family(("duel_requests", "Requests ended."), MetricType::Counter, ended)?;
        let errors = self.cells.iter().flat_map(|(id, cell)| {
            ErrorKind::ALL.iter().map(|kind| {
                let labels = vec![("cell", id.clone()), ("stage", kind.name().into())];
                (labels, cell.errors.count(*kind) as f64)
            })
        });
        out.family(
            ("duel_errors", "Failed requests of ended trials by stage."),
            MetricType::Counter,
            errors,
        )
    }

    fn live(&self, out: &mut Out) -> fmt::Result {
        let Some(live) = &self.live else { return Ok(()) };
        let label = || vec![("cell", live.cell.clone())];
        let now = self.cells.get(&live.cell).map(|c| c.now).unwrap_or_default();
        let in_flight: u64 = now.iter().map(Counts::in_flight).sum();
        out.family(
            ("duel_in_flight_requests", "Requests under way."),
            MetricType::Gauge,
            [(label(), in_flight as f64)],
        )?;
        out.family(
            ("duel_start_delay_seconds", "How long the next request to start has been due."),
            MetricType::Gauge,
            live.start_delay_ns.map(|ns| (label(), ns as f64 / SECOND_NS as f64)),
        )?;
        let of_worker = |worker: usize| {
            let mut labels = label();
            labels.push(("worker", worker.to_string()));
            labels
        };
        let held = live.workers.iter().enumerate();
        out.family(
            ("duel_worker_resident_bytes", "Resident set of a worker."),
            MetricType::Gauge,
            held.clone().filter_map(|(n, (rss, _))| Some((of_worker(n), (*rss)? as f64))),
        )?;
        out.family(
            ("duel_worker_cpu_seconds", "Processor time of the running trial's worker."),
            MetricType::Counter,
            held.filter_map(|(n, (_, cpu))| {
                Some((of_worker(n), (*cpu)? as f64 / SECOND_NS as f64))
            }),
        )
    }

    fn times(&self, out: &mut Out) -> fmt::Result {
        type Of = fn(&OfCell) -> &Buckets;
        let families: [(&str, &str, Of); 3] = [
            (
                "duel_request_start_delay_seconds",
                "Actual less intended start, of ended trials.",
                |c| &c.start_delay,
            ),
            ("duel_response_seconds", "End less intended start, of ended trials.", |c| &c.response),
            ("duel_service_seconds", "End less actual start, of ended trials.", |c| &c.service),
        ];
        for (name, help, of) in families {
            let mut family = out.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (id, cell) in &self.cells {
                let labels = vec![("cell", id.clone())];
                of(cell).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Buckets {
    fn encode(&self, mut row: MetricEncoder) -> fmt::Result {
        let count: u64 = self.counts.iter().sum();
        if count == 0 {
            return Ok(());
        }
        let bounds = bounds_ns().map(|ns| ns as f64 / SECOND_NS as f64);
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts).collect();
        row.encode_histogram::<NoLabelSet>(self.sum_ns / SECOND_NS as f64, count, &buckets, None)
    }
}
