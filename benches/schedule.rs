//! What an open loop's schedule costs an arrival: constant, Poisson, and one worker's share of it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use duel::plan::schedule::Schedule;
use duel::plan::{Arrivals, Extent, TrialPlan};

const ARRIVALS: u64 = 10_000;

fn plan(arrivals: Arrivals) -> TrialPlan {
    TrialPlan {
        arrivals,
        offered_per_s: Some(100_000.0),
        extent: Extent::Requests(ARRIVALS),
        ..TrialPlan::default()
    }
}

/// Walks through every arrival; the sum keeps the walk from being optimised away.
fn walk(arrivals: impl Iterator<Item = duel::plan::schedule::Arrival>) -> u64 {
    arrivals.fold(0, |sum, arrival| sum ^ arrival.offset_ns)
}

fn schedule(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    group.throughput(Throughput::Elements(ARRIVALS));
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let plan = plan(arrivals);
        group.bench_function(arrivals.name(), |b| {
            b.iter(|| walk(Schedule::window(black_box(&plan), None)));
        });
    }
    let plan = plan(Arrivals::Poisson);
    group.bench_function("poisson, one worker of 8", |b| {
        b.iter(|| walk(Schedule::window(black_box(&plan), None).share(3, 8)));
    });
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
