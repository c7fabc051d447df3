//! Server engines against the queues that they are. Without `DUEL_FULL=1` runs are shorter.

use duel::format::histogram;
use duel::plan::Engine;

use crate::harness::{Attempt, alone, full, run, within_three};
use crate::theory::{judged, mean, recursion_ns};

/// How far off a time may be: 2 %, or 500 µs for what wakes sleepers.
fn limit(ideal_ns: f64) -> f64 {
    f64::max(0.02 * ideal_ns, 500e3)
}

/// Where each request waits by itself, in every way that there is here.
fn engines() -> impl Iterator<Item = &'static str> {
    let rings = duel::limits::Limits::read().refusal(Engine::Uring).is_none();
    ["threads", "tokio", "uring"].into_iter().filter(move |e| rings || *e != "uring")
}

/// A pool of c threads that sleep for exponential times is M/M/c. Where each request has a thread or a
/// task of its own, it is M/M/∞. Mean and p99 are those of the recursion on the same arrivals and draws,
/// so that no sampling noise hides a bias.
///
/// Little's law holds between both ends: what the client has in flight beyond what the handlers have
/// is the queue of the recursion, none in M/M/∞.
///
/// The pool is busy for 62 % of the time: a thread that wakes 100 µs late is that much longer in use, and
/// nearer to 100 % a queue makes three times as much of it at p99, which is no fault of the pool.
///
/// tokio's timers tick once a millisecond, which 2 % of the longer waits hold.
#[test]
fn pools_are_mmc_queues_and_threads_and_tasks_have_none() {
    let _alone = alone();
    let pool = ("pool", 8, 5, 1_000, 1_500);
    let others = engines().map(|engine| (engine, 0, 300, 160, 800));
    for (engine, servers, mean_ms, rate, least) in [pool].into_iter().chain(others) {
        let requests = if full() { 5_000 } else { least };
        let config = format!(
            "[target]\nservice_time = {{ law = 'exponential', mean = '{mean_ms}ms' }}\n\
             [plan]\narrivals = 'poisson'\nrequests = {requests}\nseed = 12\n\
             [sweep]\nserver_engines = ['{engine}']\nlanes = [128]\nrates = [{rate}]\ntrials = 1\n\
             noise_repeats = 0\n[server]\npool = 'requests'\npool_size = 8\n"
        );
        let ideal = recursion_ns(&config, Some(servers));
        let mut times: Vec<u64> = ideal.iter().map(|(time, _)| *time).collect();
        times.sort_unstable();
        let p99 = times[(times.len() * 99).div_ceil(100) - 1] as f64;
        let (all, served) = (mean(times.iter().copied()), mean(ideal.iter().map(|(_, s)| *s)));
        within_three(engine, || {
            let done = run(&config);
            let record = done.only();
            let (Some(response), Some(service)) = (&record.response_ns, &record.service_ns) else {
                return Attempt::Failed(done.stderr.clone());
            };
            let Some(held) = record.target.residence_ns_total else {
                return Attempt::Failed("the handlers counted no time".into());
            };
            let seen = histogram::decode(&response.hdr).expect("a histogram");
            let held = held as f64 / requests as f64;
            // By Little's law times at one rate are numbers in flight: what is off by 2 % of the
            // whole time is off by 2 % of what the client has in flight.
            let pairs = [
                ("mean response", response.mean, all, limit(all)),
                ("p99 response", seen.value_at_quantile(0.99) as f64, p99, limit(p99)),
                ("in the handlers", held, served, limit(served)),
                ("in the queue", service.mean - held, all - served, limit(all)),
            ];
            let mut text = format!("{} of {requests}", record.ledger.completed);
            let mut close = record.ledger.completed == requests;
            for (what, seen, ideal, most) in pairs {
                close &= (seen - ideal).abs() <= most;
                let (seen, ideal, most) = (seen / 1e3, ideal / 1e3, most / 1e3);
                text += &format!(", {what} {seen:.0} µs for {ideal:.0} ± {most:.0}");
            }
            judged(close, record, text)
        });
    }
}

/// Three waits of 333 ms one after another, with a thousand connections: N = X·R from what the client
/// counted, and R is the sum of the waits.
#[test]
fn a_thousand_requests_that_wait_three_times_obey_littles_law() {
    let _alone = alone();
    const LANES: f64 = 1_000.0;
    const WAITS_NS: f64 = 999e6;
    for engine in engines() {
        let step = "[[server.step]]\nkind = 'wait'\ntime = '333ms'\n".repeat(3);
        let config = format!(
            "[plan]\nduration = '4s'\nwarmup = '1500ms'\n[sweep]\nserver_engines = ['{engine}']\n\
             lanes = [{LANES}]\ntrials = 1\nnoise_repeats = 0\n{step}"
        );
        within_three(engine, || {
            let done = run(&config);
            let record = done.only();
            let Some(service) = &record.service_ns else {
                return Attempt::Failed(done.stderr.clone());
            };
            let in_flight = record.achieved_per_s * service.mean / 1e9;
            let occupied = record.occupancy.unwrap_or(0.0) * LANES;
            let text = format!(
                "{in_flight:.0} in flight by rate × time, {occupied:.0} by the lanes; {:.1} ms each",
                service.mean / 1e6
            );
            let close = |n: f64| (n / LANES - 1.0).abs() <= 0.02;
            // The histogram's buckets are 0.1 % wide.
            let waited = (0.999 * WAITS_NS..=1.02 * WAITS_NS).contains(&service.mean);
            judged(close(in_flight) && close(occupied) && waited, record, text)
        });
    }
}
