//! What the frames between driver and worker cost: a Job with a large mix, and an Outcome with its
//! histograms; neither is on a request's path.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use duel::format::{Channel, Ledger, TrialRecord, histogram};
use duel::plan::{Cell, Codec, Engine, Extent, RequestTemplate, TrialPlan};
use duel::protocol::{BetweenEdges, Frame, Job, Outcome};

fn job(entries: u32) -> Frame {
    let template = |i: u32| RequestTemplate {
        method: "POST".into(),
        path: format!("/item/{i}"),
        weight: i + 1,
        headers: vec![("content-type".into(), "application/json".into())],
        body: vec![b'x'; 1024],
        ..RequestTemplate::default()
    };
    let plan = TrialPlan {
        extent: Extent::Requests(1_000),
        host: "127.0.0.1:8080".into(),
        mix: (0..entries).map(template).collect(),
        ..TrialPlan::default()
    };
    let trial = "tokio-lean-l64-p1-c1 block 0".into();
    let cell = Cell { codec: Codec::Lean, ..Cell::plain(Engine::Tokio, 64) };
    let targets = vec![([127, 0, 0, 1], 8080).into()];
    Frame::Job(Job { cpus: vec![0], ..Job::of(&cell, trial, targets, plan) })
}

fn outcome() -> Frame {
    let mut histogram = histogram::empty();
    let mut time = 1_u64;
    for _ in 0..100_000 {
        time = time.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        histogram.record(50_000 + (time >> 44)).expect("below the highest");
    }
    let text = histogram::encode(&histogram).unwrap();
    let cell = Cell::plain(Engine::Tokio, 64);
    let ledger = Ledger { planned: 100_000, completed: 100_000, ..Ledger::default() };
    Frame::Outcome(Outcome {
        part: TrialRecord { ledger, ..TrialRecord::part_of(&cell) },
        histograms: Channel::ALL[..5].iter().map(|channel| (*channel, text.clone())).collect(),
        started_at_ns: 0,
        started_in_window: 100_000,
        machine: BetweenEdges::default(),
        in_service_ns: 0,
        warmup_in_service_ns: 0,
        error_samples: BTreeMap::new(),
        heap: None,
    })
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, frame) in
        [("job of 1", job(1)), ("job of 64", job(64)), ("outcome of 5 histograms", outcome())]
    {
        let mut line = Vec::new();
        frame.write_to(&mut line).expect("a valid frame");
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(format!("write {name}"), |b| {
            let mut out = Vec::with_capacity(line.len());
            b.iter(|| {
                out.clear();
                black_box(&frame).write_to(&mut out).expect("a valid frame");
            });
        });
        group.bench_function(format!("parse {name}"), |b| {
            b.iter(|| Frame::parse(black_box(&line)).expect("a valid frame"));
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
