//! Records as a run would leave them, for tests of what reads them.

use std::collections::BTreeMap;

use duel::format::histogram;
use duel::format::{
    Bytes, Cpu, Distribution, Events, Gate, LargestWorker, Ledger, Memory, MinMax, Status,
    Switches, TargetUse, TrialRecord,
};
use duel::plan::engine::SocketKind;
use duel::plan::{Cell, Engine};
use hdrhistogram::Histogram;

/// Hash that the plan and every record of these tests share.
pub(crate) const PLAN_HASH: &str = "5a";

fn blocks(engine: Engine) -> bool {
    engine.facts().sockets == SocketKind::Blocking
}

/// A closed-loop cell of 64 lanes on one CPU.
pub(crate) fn cell(engine: Engine) -> Cell {
    Cell {
        id: format!("{}-hyper-l64-p1-c1", engine.name()),
        stack_size_bytes: blocks(engine).then_some(65_536),
        ..Cell::plain(engine, 64)
    }
}

/// A distribution of `count` samples that climb evenly from `low` to `high` nanoseconds.
pub(crate) fn climb(low: u64, high: u64, count: u64) -> Distribution {
    let mut h = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    for i in 0..count {
        h.record(low + (high - low) * i / count.max(1)).unwrap();
    }
    histogram::summarize(&h).unwrap()
}

/// A trial of 2,000 requests that went well; `cost` scales what it used.
pub(crate) fn record(cell: Cell, block: u32, cost: f64) -> TrialRecord {
    let ledger = Ledger { planned: 2_000, completed: 2_000, ..Ledger::default() };
    let open = cell.arrivals.is_open();
    // Blocks drift alike for all cells, and differ by up to 1 % between cells.
    let salt = cell.id.bytes().map(u32::from).sum::<u32>() + block * 7;
    let drift = (1.0 + 0.03 * f64::from(block)) * (0.99 + 0.005 * f64::from(salt % 5));
    let cpu_ns = (20e6 * cost * drift) as u64;
    let top = (6e6 * drift) as u64;
    let rate_ns = (160e6 * drift) as u64;
    let pacer_ns = open.then_some(1_000_000);
    let open_only = |low, high| open.then(|| climb(low, high, 2_000));
    TrialRecord {
        status: Status::Ok,
        ledger,
        bytes: Bytes { sent: 120_000, received: 2_200_000 },
        requests_per_lane: MinMax { min: 30, max: 33 },
        setup_ns: 4_000_000,
        measured_ns: 160_000_000,
        completed_in_window: 2_000,
        ended_between_edges: 2_000,
        rate_requests: 2_000.0,
        rate_ns,
        // As many digits as JSON gives back to the last bit.
        achieved_per_s: (2_000.0 * 1e12 / rate_ns as f64).round() / 1e3,
        service_ns: Some(climb(5_000_000, top, 2_000)),
        response_ns: open_only(5_050_000, top + 100_000),
        start_delay_ns: open_only(20_000, 90_000),
        pacer_delay_ns: open_only(15_000, 70_000),
        lane_wait_ns: open_only(1_000, 20_000),
        connect_ns: Some(climb(40_000, 90_000, 64)),
        cpu: Cpu {
            total_ns: cpu_ns + pacer_ns.unwrap_or(0),
            user_ns: cpu_ns / 3,
            system_ns: cpu_ns - cpu_ns / 3,
            per_request_ns: cpu_ns as f64 / 2_000.0,
            pacer_ns,
            monitor_ns: None,
            run_queue_wait_ns: Some(3_000_000),
            machine_busy_ns: Some(90_000_000),
            ..Cpu::default()
        },
        switches: Switches {
            voluntary: (2_000.0 * cost) as u64,
            involuntary: 40,
            migrations: Some(1),
        },
        events: Events { minor_faults: Some(40), major_faults: Some(0), ..Events::default() },
        memory: Memory {
            baseline_rss_bytes: 3_000_000,
            peak_rss_bytes: 3_000_000 + (700_000.0 * cost * drift) as u64,
            ..Memory::default()
        },
        threads_peak: if blocks(cell.engine) { 65 } else { 2 },
        fds_peak: 72,
        gates: vec![Gate {
            name: "ledger_balanced".into(),
            hard: true,
            ok: Some(true),
            value: None,
            limit: None,
        }],
        target: TargetUse {
            processes: 1,
            received: Some(2_000),
            cpu_ns: Some(60_000_000),
            queue_ns_total: Some(0),
            service_ns_total: Some(10_000_000_000),
            residence_ns_total: None,
        },
        largest_worker: Some(LargestWorker::default()),
        pacer: open.then_some(duel::plan::Pacer::Precise),
        allocator: "system".into(),
        glibc_tunables: String::new(),
        ready_ns: 3_000_000,
        started_unix_ns: Some(1_700_000_000_000_000_000 + u64::from(block) * 1_000_000_000),
        occupancy: (!open).then_some(0.98),
        in_flight_peak: Some(64),
        unavailable: BTreeMap::from([(
            "memory.kernel_bytes".into(),
            "no memory cgroup can be made here".into(),
        )]),
        ..TrialRecord::blank(PLAN_HASH.into(), "b1".into(), block, block * 5, cell)
    }
}
