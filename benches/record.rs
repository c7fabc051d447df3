//! What recording costs a request: one histogram, and all that a request of a closed and of an open
//! loop writes, clock reads apart.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use duel::side::counters::Counters;
use duel::side::latency::AtomicHistogram;
use duel::side::{Instants, Phase, Recorder};
use duel::sys::now_ns;

/// Times from 50 µs to about 1 ms in no order, so that buckets are not always in the same cache
/// line.
struct Times(u64);

impl Times {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        50_000 + (self.0 >> 44)
    }
}

fn recorder(open_loop: bool) -> Recorder {
    let (counters, _fd) = Counters::create(1).expect("a memfd");
    Recorder::new(1, open_loop, counters)
}

/// What a lane tells the recorder about one request.
fn request(recorder: &Recorder, at: Instants) {
    recorder.started(0, Phase::Measured, at.start, u64::MAX);
    recorder.completed(0, Phase::Measured, at, at.end, (120, 300), u64::MAX);
}

fn recording(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let mut times = Times(1);
    group.bench_function("nothing but the time to record", |b| b.iter(|| black_box(times.next())));

    let histogram = AtomicHistogram::new();
    group.bench_function("one histogram", |b| b.iter(|| histogram.record(black_box(times.next()))));

    let closed = recorder(false);
    group.bench_function("a closed-loop request", |b| {
        b.iter(|| {
            let start = 1_000_000_000;
            let end = start + times.next();
            request(&closed, black_box(Instants { intended: None, released: start, start, end }));
        });
    });

    let open = recorder(true);
    group.bench_function("an open-loop request", |b| {
        b.iter(|| {
            let intended = 1_000_000_000;
            let released = intended + 40_000;
            let start = released + 10_000;
            let end = start + times.next();
            let at = Instants { intended: Some(intended), released, start, end };
            request(&open, black_box(at));
        });
    });
    group.finish();
    c.bench_function("clock/now_ns", |b| b.iter(now_ns));
}

criterion_group!(benches, recording);
criterion_main!(benches);
