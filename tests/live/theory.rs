//! Live runs against what theory says of them. Without `DUEL_FULL=1` they are shorter: 1,500
//! requests instead of 5,000, and stalls of 100 ms every second, for which the same law holds.

use duel::plan::Engine;
use duel::plan::schedule::Schedule;
use duel::plan::sweep::Target;
use duel::server::laws::draw;
use duel::server::queue::VirtualQueue;

use duel::format::TrialRecord;
use duel::format::histogram;

use crate::harness::{Attempt, alone, disturbed, full, run, sweep, within_three};

/// The response times of a queue's recursion on the intended arrivals and service draws of a config,
/// each with its draw, in nanoseconds: what a generator and a machine without any delay would see.
pub(crate) fn recursion_ns(config: &str, servers: Option<u32>) -> Vec<(u64, u64)> {
    let sweep = sweep(config);
    let plan = sweep.trial_plan(&sweep.cells()[0]);
    let Target::Embedded(target) = &sweep.target else { panic!("embedded") };
    let mut queue = VirtualQueue::new(servers.unwrap_or(target.servers));
    let each = |(n, arrival): (usize, duel::plan::schedule::Arrival)| {
        let service = draw(&target.service_time, plan.seed, n as u64);
        let (_, departure) = queue.departure(arrival.offset_ns, service);
        (departure - arrival.offset_ns, service)
    };
    Schedule::window(&plan, None).enumerate().map(each).collect()
}

pub(crate) fn mean(values: impl ExactSizeIterator<Item = u64>) -> f64 {
    let n = values.len() as f64;
    values.map(|v| v as f64).sum::<f64>() / n
}

/// Eight servers of 5 ms at 1,200 requests/s: ρ = 0.75. Both sides see the same arrivals and the
/// same draws, so that no sampling noise hides a bias. Two arrivals may swap their draws when they
/// are closer together than the pacer's jitter, which changes the mean by next to nothing.
#[test]
fn every_engine_meets_the_queue_recursion() {
    let _alone = alone();
    let requests = if full() { 5_000 } else { 1_500 };
    let limits = duel::limits::Limits::read();
    let runs = |e: &Engine| *e != Engine::Sequential && limits.refusal(*e).is_none();
    for engine in Engine::ALL.into_iter().filter(runs) {
        let config = format!(
            "[target]\nservice_time = {{ law = 'exponential', mean = '5ms' }}\nservers = 8\n\
             [plan]\narrivals = 'poisson'\nrequests = {requests}\nseed = 11\n\
             [sweep]\nengines = ['{}']\nlanes = [128]\nrates = [1200]\ntrials = 1\n\
             noise_repeats = 0",
            engine.name()
        );
        let ideal = mean(recursion_ns(&config, None).iter().map(|(time, _)| *time));
        let limit = f64::max(0.02 * ideal, 500e3);
        within_three(engine.name(), || {
            let done = run(&config);
            let record = done.only();
            let Some(response) = &record.response_ns else {
                return Attempt::Failed(done.stderr.clone());
            };
            let text = format!(
                "mean response {:.0} µs, recursion {:.0} µs, allowed ± {:.0} µs, {} of {requests}",
                response.mean / 1e3,
                ideal / 1e3,
                limit / 1e3,
                record.ledger.completed,
            );
            let close = (response.mean - ideal).abs() <= limit;
            judged(close && record.ledger.completed == requests, record, text)
        });
    }
}

/// A periodic stall: S long, every T, at constant arrivals of rate λ. A request whose intended start
/// lies φ into a stall is answered at the stall's end and so takes S − φ, φ uniform on [0, S); all
/// others take next to nothing. Hence P(response > x) = (S − x) ÷ T, and the percentile q lies at
/// S − (1 − q)·T. For S = 200 ms and T = 5 s: p98 100 ms, p99 150 ms, p99.9 195 ms, max 200 ms.
///
/// What has gathered is then worked off in order at the rate μ at which the same lanes work off as
/// many that are released at once, so that λφ requests before it cost a request λφ ÷ μ more: it takes
/// S − φ·(1 − ρ), ρ = λ ÷ μ (the fluid limit of a queue whose server stands still), and q lies at
/// S − (1 − q)·T·(1 − ρ). μ is measured beside it, the median of five bursts, and must be far above
/// λ, or the law would say little. A long closed loop would have another μ: its caches are warm.
///
/// A virtual machine whose CPUs slept through the stall may need longer to work it off than it took
/// in the burst (seen: 28 µs per request for 10 µs). The short proof therefore allows ρ up to 8 %, as
/// p95 shows it, and the other percentiles must lie on the line of that ρ; the full one does not.
///
/// The warm-up shifts the window by half of a period, so that it holds whole stalls only. Service
/// times hide the stall (coordinated omission): it stops each lane once, whatever the rate.
fn stall(engine: &str, stall_ms: u64, every_ms: u64, window_ms: u64) -> Attempt {
    let rate = 1000.0;
    let cell = format!(
        "[sweep]\nengines = ['{engine}']\ncodecs = ['lean']\nlanes = [16]\nnoise_repeats = 0\n"
    );
    let burst = run(&format!(
        "[target]\nservice_time = '0ms'\n[plan]\narrivals = 'constant'\nrequests = {}\n\
         {cell}trials = 5\nrates = ['1M']\n",
        rate * stall_ms as f64 / 1e3
    ));
    let mut drained: Vec<f64> = burst.records.iter().map(|r| r.achieved_per_s).collect();
    drained.sort_by(f64::total_cmp);
    let busy = rate / drained[drained.len() / 2];
    let done = run(&format!(
        "[target]\nservice_time = '0ms'\n\
         faults = {{ stall = {{ every = '{every_ms}ms', for = '{stall_ms}ms' }} }}\n\
         [plan]\narrivals = 'constant'\nduration = '{window_ms}ms'\nwarmup = '{}ms'\n\
         {cell}trials = 1\nrates = [{rate}]\n",
        every_ms / 2
    ));
    let record = done.only();
    let (Some(response), Some(service)) = (&record.response_ns, &record.service_ns) else {
        return Attempt::Failed(done.stderr);
    };
    let histogram = histogram::decode(&response.hdr).expect("a histogram");
    let (s, t) = (stall_ms as f64 * 1e6, every_ms as f64 * 1e6);
    let mut text = format!("busy {:.1} %, ", busy * 100.0);
    let mut sound = busy < 0.1;
    let at_half = histogram.value_at_quantile(1.0 - s / 2.0 / t) as f64;
    let shown = 1.0 - (s - at_half) / (s / 2.0);
    let busy = if full() { busy } else { shown.min(0.08).max(busy) };
    // Where half, three quarters, 39 fortieths of the stall, and all of it had passed.
    for passed in [s / 2.0, s * 0.75, s * 0.975, s] {
        let (q, law) = (1.0 - (s - passed) / t, s - (s - passed) * (1.0 - busy));
        let seen = histogram.value_at_quantile(q) as f64;
        sound &= (seen / law - 1.0).abs() <= 0.02;
        text += &format!("p{:.2}: {:.1} ms for {:.1} ms, ", q * 100.0, seen / 1e6, law / 1e6);
    }
    let stalls = window_ms / every_ms;
    let service = histogram::decode(&service.hdr).expect("a histogram");
    let long = service.count_between(stall_ms * 500_000, u64::MAX / 2);
    text += &format!("{long} long service times for {}", 16 * stalls);
    // A response that is about to leave as a stall begins costs a lane its long sample, or adds one.
    sound &= long.abs_diff(16 * stalls) <= stalls;
    judged(sound, record, text)
}

/// A failure beside other programs' load is none.
pub(crate) fn judged(sound: bool, record: &TrialRecord, text: String) -> Attempt {
    match sound {
        true => Attempt::Held(text),
        false if disturbed(record) => Attempt::Disturbed(text),
        false => Attempt::Failed(text),
    }
}

#[test]
fn a_stall_shows_in_response_times_as_the_closed_form_says() {
    let _alone = alone();
    let rings = duel::limits::Limits::read().refusal(Engine::Uring).is_none();
    for engine in ["threads", "tokio", "uring"].into_iter().filter(|e| rings || *e != "uring") {
        within_three(engine, || {
            if full() {
                stall(engine, 200, 5_000, 20_000)
            } else {
                stall(engine, 200, 2_000, 4_000)
            }
        });
    }
}
