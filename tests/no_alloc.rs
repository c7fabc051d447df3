//! Nothing allocates on the recording path after Start. A test binary of its own, since the
//! allocator that counts is the whole process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use duel::plan::request::{Mix, render};
use duel::plan::schedule::Schedule;
use duel::plan::steps::{FileOp, FileStep, StepPlan};
use duel::plan::{Arrivals, Extent, RequestTemplate, TrialPlan};
use duel::side::counters::Counters;
use duel::side::{Channel, ErrorKind, Instants, Phase, Recorder};
use duel::work::{Kit, StepAt, Work};

/// The system's allocator, counting what the calling thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and no test runs there.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches a cell of
// plain data that needs no allocation itself.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `pointer` came from the same allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations that `work` makes on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn recorder(open_loop: bool) -> Recorder {
    let (counters, _fd) = Counters::create(2).expect("a memfd");
    Recorder::new(2, open_loop, counters).with(&[Channel::FileStep, Channel::Heartbeat])
}

fn plan(arrivals: Arrivals) -> TrialPlan {
    let template = |i: u32| RequestTemplate {
        path: format!("/{i}"),
        weight: i + 1,
        ..RequestTemplate::default()
    };
    TrialPlan {
        arrivals,
        offered_per_s: Some(1_000.0),
        extent: Extent::Requests(1_000),
        timeout_ns: 1,
        mix: (0..5).map(template).collect(),
        ..TrialPlan::default()
    }
}

/// Requests that end in each of the ways a request can, in and after the window.
fn record(recorder: &Recorder, intended: Option<u64>) {
    for phase in [Phase::Warmup, Phase::Measured] {
        for i in 0..1_000 {
            let shard = i as usize % 2;
            let (released, start, end) = (1_100, 1_200 + i, 2_000 + i * 1_000);
            let at = Instants { intended, released, start, end };
            let window_end = if i % 7 == 0 { 1_500 } else { u64::MAX };
            recorder.started(shard, phase, start, window_end);
            recorder.completed(shard, phase, at, end - 1, (100, 200), window_end);
            recorder.started(shard, phase, start, window_end);
            recorder.timed_out(shard, phase, at, window_end);
            recorder.started(shard, phase, start, window_end);
            recorder.failed(shard, phase, at, ErrorKind::Read, "cut", window_end);
        }
    }
    recorder.connected(0, 50_000, true);
    recorder.step(1, Phase::Measured, Channel::FileStep, 30_000);
    recorder.beat(1_000);
    recorder.lane_ended(3_000, 2_000);
}

#[test]
fn recording_allocates_nothing_but_the_first_sample_of_an_error() {
    for (open_loop, intended) in [(false, None), (true, Some(1_000))] {
        let recorder = recorder(open_loop);
        // The first message of a kind is kept as text: one allocation a kind and worker.
        let first = allocations(|| record(&recorder, intended));
        assert_eq!(first, 1, "open loop: {open_loop}: the one sample, and nothing a request");
        let second = allocations(|| record(&recorder, intended));
        assert_eq!(second, 0, "open loop: {open_loop}");
    }
}

#[test]
fn picking_and_releasing_requests_allocates_nothing() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let plan = plan(arrivals);
        let mix = Mix::new(&plan);
        let rendered = render(&plan).expect("a plan that renders");
        let mut schedule = Schedule::window(&plan, None);
        let mut bytes = 0;
        let made = allocations(|| {
            for arrival in &mut schedule {
                bytes += rendered[mix.pick(arrival.index)].bytes.len();
            }
        });
        assert!(bytes > 0, "the schedule was empty");
        assert_eq!(made, 0, "{arrivals:?}");
    }
}

#[test]
fn carrying_steps_out_allocates_nothing() {
    let file =
        |op| FileStep { op, bytes: 100_000, files: 2, direct: false, sync: false, dir: None };
    let steps = vec![
        StepPlan::File(file(FileOp::Read)),
        StepPlan::Http,
        StepPlan::File(file(FileOp::Write)),
        StepPlan::Compute { bytes: 100_000 },
    ];
    let mut plan = plan(Arrivals::Closed);
    plan.mix = vec![RequestTemplate { steps, ..RequestTemplate::default() }];
    let name = duel::work::files::new_name();
    let work =
        Work::prepare(&plan.mix, &name).expect("files can be made").expect("there are steps");
    let mut kit = Kit::new(&work);
    let made = allocations(|| {
        for (index, number) in [0, 2, 3, 0, 2, 3].into_iter().enumerate() {
            let step = StepAt { template: 0, number, index: index as u64 };
            kit.perform(step).expect("it can be carried out");
        }
    });
    assert_eq!(made, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0_u8; 10]))), 1);
}
