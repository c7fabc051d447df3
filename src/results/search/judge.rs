//! Whether a rate meets an SLO, by the shares of requests that were beyond each bound.
//!
//! Near the knee a queue is late in bursts: most trials hold no late request, and a few hold many. So
//! an interval of the mean share is set up on its logarithm, which keeps the promise on the side
//! where Student's t on the shares themselves breaks it (with a mean of 2.4 % it called 17 to 27 of
//! 100 probes of an M/M/8 below 1 %). Each look at the trials spends a part of the 2.5 % by which
//! either answer may be wrong (Lan and DeMets, Biometrika 70 (1983)), early ones little.

use serde::Serialize;

use crate::format::gates::{GateKind, meaning};
use crate::format::histogram;
use crate::format::{Distribution, Gate, Ledger, Status, TrialRecord};
use crate::plan::search::Bound;
use crate::stats::{CONFIDENCE, student_t_quantile};

/// Gates that say what the generator could not do, and of no defect.
const GENERATOR: [(GateKind, &str); 3] = [
    (GateKind::WorkerCpu, "the worker's CPUs were saturated"),
    (GateKind::PacerDelay, "requests were released late"),
    (GateKind::Late, "requests were released late"),
];

/// Requests beyond one bound in one trial, of those that the bound is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub planned: u64,
    /// Those beyond the bound by response time, lost ones included.
    pub beyond: u64,
    pub sent: u64,
    /// Those beyond the bound by service time.
    pub beyond_in_service: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    Counts {
        shares: Vec<Share>,
        /// The gate that says how busy the machine was with something else. Other programs make times
        /// longer and never shorter, so that such a trial can show that a bound is met, not that it is
        /// missed.
        noisy: Option<String>,
    },
    /// The generator could not do what was asked, and why.
    Generator(String),
    /// Its numbers may not be believed, and why.
    Void(String),
}

/// What the trials of a probe say together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum ProbeAnswer {
    /// Every bound, with its whole interval.
    Met,
    /// Some bound not, with its whole interval.
    Missed {
        bound: String,
    },
    /// The interval of some bound holds the bound itself even after the most trials.
    Undecided,
    /// The generator could not offer the rate, which says nothing of the target.
    Generator {
        why: String,
    },
    Unknown {
        why: String,
    },
}

pub fn trial(record: &TrialRecord, bounds: &[Bound]) -> Judged {
    if record.status == Status::Failed {
        let why = record.error.as_deref().unwrap_or("no reason was recorded");
        return Judged::Void(format!("failed: {why}"));
    }
    let failed = |kind| record.gates.iter().any(|g| g.is(kind) && g.failed());
    if let Some((_, why)) = GENERATOR.iter().find(|(kind, _)| failed(*kind)) {
        return Judged::Generator((*why).into());
    }
    let distrusted = |hard: bool| {
        // Deliveries fail where lanes are busy when requests are due, whoever keeps them busy.
        let of = |g: &&Gate| g.failed() && !g.is(GateKind::DeliveredRate) && g.hard == hard;
        let failed = record.gates.iter().find(of);
        failed.map(|gate| meaning(&gate.name).unwrap_or(&gate.name).to_string())
    };
    if let Some(why) = distrusted(true) {
        return Judged::Void(why);
    }
    if record.ledger.planned == 0 {
        return Judged::Void("no request fell inside the window".into());
    }
    let within = |times: &Option<Distribution>, most: u64| -> Result<u64, histogram::HdrError> {
        let Some(times) = times else { return Ok(0) };
        // Requests that were given up stand above every bound that a config may name.
        Ok(histogram::decode(&times.hdr)?.count_between(0, most))
    };
    let share = |bound: &Bound| -> Result<Share, histogram::HdrError> {
        let part = bound.class.as_deref().map(|class| record.of_class(class));
        let Some(record) = part.as_ref().map_or(Some(record), Option::as_ref) else {
            return Ok(Share::default());
        };
        let Ledger { planned, completed, unsent, .. } = record.ledger;
        let sent = planned - unsent;
        let in_time = |times| bound.most_ns.map_or(Ok(completed), |most| within(times, most));
        let beyond = planned.saturating_sub(in_time(&record.response_ns)?);
        let beyond_in_service = sent.saturating_sub(in_time(&record.service_ns)?);
        Ok(Share { planned, beyond, sent, beyond_in_service })
    };
    match bounds.iter().map(share).collect() {
        Ok(shares) => Judged::Counts { shares, noisy: distrusted(false) },
        Err(error) => Judged::Void(error.to_string()),
    }
}

/// What an interval of a share says about what is allowed.
#[derive(Clone, Copy, PartialEq)]
enum BoundSide {
    Below,
    Astride,
    Above,
}

/// How often either answer may be wrong, all looks of a probe together.
const ERROR: f64 = (1.0 - CONFIDENCE) / 2.0;

/// Whether a probe is looked at after so many trials: after the first `least`, and whenever their
/// number has doubled.
fn is_look(trials: usize, least: usize) -> bool {
    let mut look = least.max(1);
    while look < trials {
        look *= 2;
    }
    look == trials
}

/// What a look after `trials` may spend of [`ERROR`]: by then (trials ÷ most)² of it is spent.
fn spent(trials: usize, least: usize, most: usize) -> f64 {
    let by = |n: usize| (n as f64 / most.max(n) as f64).powi(2);
    let before = (0..trials).rev().find(|n| is_look(*n, least)).map_or(0.0, by);
    ERROR * (by(trials) - before)
}

/// The shares of the trials that count: of the quiet ones, and of all.
fn counted<'t>(trials: &'t [Judged]) -> [Vec<&'t [Share]>; 2] {
    [false, true].map(|all| {
        let of = |trial: &'t Judged| match trial {
            Judged::Counts { shares, noisy } if all || noisy.is_none() => Some(&shares[..]),
            _ => None,
        };
        trials.iter().filter_map(of).collect()
    })
}

/// The same of those that show how a rate did: the quiet ones where at least half are.
pub fn shown(trials: &[Judged]) -> Vec<&[Share]> {
    let [quiet, all] = counted(trials);
    if 2 * quiet.len() >= all.len() { quiet } else { all }
}

/// Judges the trials of a probe; `None` while more are needed to decide.
pub fn judge(trials: &[Judged], bounds: &[Bound], least: u32, most: u32) -> Option<ProbeAnswer> {
    let [quiet, all] = counted(trials);
    let generator = trials.iter().filter(|t| matches!(t, Judged::Generator(_))).count();
    let (least, most) = (least as usize, most as usize);
    let last = trials.len() >= most;
    if generator >= least && generator > all.len() {
        return Some(ProbeAnswer::Generator { why: reason(trials, true) });
    }
    let is_due = |set: &[&[Share]]| set.len() >= least && (last || is_look(set.len(), least));
    let by = |set: &[&[Share]], beyond_of: fn(&Share) -> (u64, u64)| -> Vec<BoundSide> {
        let error = spent(set.len(), least, most) / bounds.len().max(1) as f64;
        let side = |(i, bound): (usize, &Bound)| {
            let pair = |shares: &&[Share]| {
                let (beyond, of) = beyond_of(&shares[i]);
                (beyond as f64, of as f64)
            };
            side(&set.iter().map(pair).collect::<Vec<_>>(), bound.allowed, error)
        };
        bounds.iter().enumerate().map(side).collect()
    };
    let in_response = |set: &[&[Share]]| by(set, |s| (s.beyond, s.planned));
    let is_met = |set: &[&[Share]]| in_response(set).iter().all(|s| *s == BoundSide::Below);
    if [&quiet, &all].into_iter().any(|set| is_due(set) && is_met(set)) {
        return Some(ProbeAnswer::Met);
    }
    if !is_due(&quiet) {
        return last.then(|| too_few(trials, quiet.len(), generator));
    }
    let sides = in_response(&quiet);
    // What is missed, or else what is not known to be met.
    let is_missed = sides.contains(&BoundSide::Above);
    let open = |i: &usize| (sides[*i] == BoundSide::Above) || !is_missed;
    let open: Vec<usize> = (0..sides.len()).filter(open).collect();
    let in_service = by(&quiet, |s| (s.beyond_in_service, s.sent));
    let unclear = open.iter().any(|i| in_service[*i] == BoundSide::Astride);
    if !last && (unclear || !is_missed) {
        return None;
    }
    Some(match open.into_iter().find(|i| in_service[*i] != BoundSide::Below) {
        // What a lane sent came back in time: the requests had waited for a lane, not for the target.
        None => ProbeAnswer::Generator { why: "lanes ran out".into() },
        Some(i) if is_missed => ProbeAnswer::Missed { bound: bounds[i].name.clone() },
        Some(_) => ProbeAnswer::Undecided,
    })
}

/// A trial that was void said nothing; only where most of the others were the generator's stops is
/// that what can be said.
fn too_few(trials: &[Judged], counted: usize, generator: usize) -> ProbeAnswer {
    if generator > trials.len() - counted - generator {
        return ProbeAnswer::Generator { why: reason(trials, true) };
    }
    let (all, why) = (trials.len(), reason(trials, false));
    ProbeAnswer::Unknown { why: format!("only {counted} of {all} trials are reliable: {why}") }
}

/// The last reason why a trial does not count, of the generator's or of the others.
fn reason(trials: &[Judged], of_generator: bool) -> String {
    let why = trials.iter().rev().find_map(|t| match t {
        Judged::Generator(why) if of_generator => Some(why.clone()),
        Judged::Void(why) | Judged::Counts { noisy: Some(why), .. } if !of_generator => {
            Some(why.clone())
        }
        _ => None,
    });
    why.unwrap_or_else(|| "nothing was measured".into())
}

/// Where the interval of a share stands; `pairs` hold the requests beyond the bound and all, by
/// trial, and either end may be wrong with a probability of `error`.
fn side(pairs: &[(f64, f64)], allowed: f64, error: f64) -> BoundSide {
    let (beyond, all) = pairs.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
    if all <= 0.0 {
        return BoundSide::Astride;
    }
    let n = pairs.len() as f64;
    let share = beyond / all;
    // Of a ratio of sums, so that a trial counts by its requests (Cochran 1977, section 6.3).
    let squares: f64 = pairs.iter().map(|(b, a)| (b - share * a).powi(2)).sum();
    let seen = (squares / (n - 1.0) * n).sqrt() / all;
    // Of independent requests at the bound itself: trials that are calm alike prove no more.
    let least = (allowed * (1.0 - allowed) / all).sqrt();
    let t = student_t_quantile(1.0 - error, pairs.len() - 1);
    let times = |reach: f64| if share > 0.0 { share * (t * reach / share).exp() } else { 0.0 };
    if times(seen) <= allowed && share + t * least <= allowed {
        BoundSide::Below
    } else if times(-seen.max(least)) > allowed {
        BoundSide::Above
    } else {
        BoundSide::Astride
    }
}
