//! Service times and faults, each a pure function of (seed, request number).
//!
//! Nothing here keeps state, so that a test or a later analysis can recompute what any request
//! of any process was given.

use rand::Rng;
use rand::SeedableRng;
use rand_xoshiro::SplitMix64;

use crate::codec::serve::answers::AnswerKind;
use crate::codec::serve::request::Persistence;
use crate::plan::target::{InjectedFaults, Law, Stall};

/// The increment of SplitMix64 (Steele, Lea and Flood 2014): output n of a stream is the first
/// output of the stream that starts n increments later, which makes the generator seekable.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Independent streams of one seed, so that one draw never correlates with another.
#[derive(Clone, Copy)]
enum LawStream {
    Service,
    /// The second uniform of a normal variate.
    Angle,
    Fault,
}

/// 64 random bits: output `n` of the SplitMix64 stream of (seed, stream).
fn word(seed: u64, stream: LawStream, n: u64) -> u64 {
    // The key passes through the generator once, since neighbouring seeds would otherwise give
    // streams that are shifts of one another.
    let key = SplitMix64::seed_from_u64(seed ^ (stream as u64).rotate_right(8)).next_u64();
    SplitMix64::seed_from_u64(key.wrapping_add(n.wrapping_mul(INCREMENT))).next_u64()
}

/// Uniform on [0, 1) with 53 bits.
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

/// The service time of request `n`, in nanoseconds; one that overflows is `u64::MAX`.
///
/// Exponential by inversion, −ln(1 − u)·mean; log-normal as exp(µ + σz) with
/// µ = ln(mean) − σ²/2, so that the mean of the times themselves is the one asked for, and z by
/// Box and Muller (1958).
pub fn draw(law: &Law, seed: u64, n: u64) -> u64 {
    match *law {
        Law::Fixed { ns } => ns,
        Law::Uniform { min_ns, max_ns } => {
            let values = u128::from(max_ns.saturating_sub(min_ns)) + 1;
            let offset = (u128::from(word(seed, LawStream::Service, n)) * values) >> 64;
            min_ns.saturating_add(offset as u64)
        }
        Law::Exponential { mean_ns } => {
            let u = unit(word(seed, LawStream::Service, n));
            (-(-u).ln_1p() * mean_ns as f64).round() as u64
        }
        Law::Lognormal { mean_ns, sigma } => {
            let radius = (-2.0 * (-unit(word(seed, LawStream::Service, n))).ln_1p()).sqrt();
            let angle = std::f64::consts::TAU * unit(word(seed, LawStream::Angle, n));
            let mu = (mean_ns as f64).ln() - sigma * sigma / 2.0;
            (mu + sigma * radius * angle.cos()).exp().round() as u64
        }
    }
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// As it should be, with status 200.
    None,
    /// With status 500 and a body of the normal length.
    Error,
    /// With a reset of the connection, after the service time and instead of any byte.
    Reset,
}

impl InjectedFault {
    pub(super) fn answer(self, head_only: bool, persistence: Persistence) -> AnswerKind {
        match self {
            Self::None => AnswerKind::Served { error: false, head_only, persistence },
            Self::Error => AnswerKind::Served { error: true, head_only, persistence },
            Self::Reset => AnswerKind::Reset,
        }
    }
}

/// How request `n` is answered. One uniform decides, so that the two shares exclude each other.
pub fn fault(faults: &InjectedFaults, seed: u64, n: u64) -> InjectedFault {
    if faults.error_rate == 0.0 && faults.reset_rate == 0.0 {
        return InjectedFault::None;
    }
    let u = unit(word(seed, LawStream::Fault, n));
    if u < faults.reset_rate {
        InjectedFault::Reset
    } else if u < faults.reset_rate + faults.error_rate {
        InjectedFault::Error
    } else {
        InjectedFault::None
    }
}

/// The first instant at or after `at_ns` at which a response byte may leave: `at_ns` itself
/// outside of [k·every, k·every + for) from `start_at_ns`, k ≥ 1, and else the end of the stall.
pub fn after_stall(stall: &Stall, start_at_ns: u64, at_ns: u64) -> u64 {
    let since_start = at_ns.saturating_sub(start_at_ns);
    if stall.every_ns == 0 || since_start < stall.every_ns {
        return at_ns;
    }
    let phase = since_start % stall.every_ns;
    if phase < stall.for_ns { (at_ns - phase).saturating_add(stall.for_ns) } else { at_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: u64 = 1_000_000;

    /// Mean and standard deviation of the first N draws.
    fn moments(law: &Law) -> (f64, f64) {
        let draws = (0..N).map(|n| draw(law, 7, n) as f64);
        let (sum, squares) = draws.fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        let mean = sum / N as f64;
        (mean, (squares / N as f64 - mean * mean).sqrt())
    }

    #[track_caller]
    fn near(what: &str, got: f64, expected: f64, tolerance: f64) {
        let error = (got / expected - 1.0).abs();
        assert!(error < tolerance, "{what}: {got} instead of {expected}, off by {error}");
    }

    #[test]
    fn fixed_is_fixed() {
        assert!((0..100).all(|n| draw(&Law::Fixed { ns: 42 }, n, n) == 42));
    }

    #[test]
    fn uniform_has_its_moments_and_reaches_both_ends() {
        let law = Law::Uniform { min_ns: 1_000_000, max_ns: 3_000_000 };
        let (mean, deviation) = moments(&law);
        near("mean", mean, 2e6, 0.002);
        near("standard deviation", deviation, 2e6 / 12f64.sqrt(), 0.005);
        let narrow = Law::Uniform { min_ns: 5, max_ns: 7 };
        let mut seen = [0u32; 3];
        (0..300).for_each(|n| seen[(draw(&narrow, 1, n) - 5) as usize] += 1);
        assert!(seen.iter().all(|&count| count > 60), "uneven: {seen:?}");
        assert!((0..100).all(|n| draw(&Law::Uniform { min_ns: 9, max_ns: 9 }, 1, n) == 9));
        draw(&Law::Uniform { min_ns: 0, max_ns: u64::MAX }, 1, 1);
    }

    #[test]
    fn exponential_has_its_moments_and_its_median() {
        let law = Law::Exponential { mean_ns: 5_000_000 };
        let (mean, deviation) = moments(&law);
        near("mean", mean, 5e6, 0.005);
        near("standard deviation", deviation, 5e6, 0.01);
        let below = (0..N).filter(|&n| (draw(&law, 7, n) as f64) < 5e6 * 2f64.ln()).count();
        near("share under the median", below as f64, N as f64 / 2.0, 0.005);
    }

    #[test]
    fn lognormal_has_its_moments_and_its_median() {
        let (mean_ns, sigma) = (5_000_000, 0.75f64);
        let law = Law::Lognormal { mean_ns, sigma };
        let (mean, deviation) = moments(&law);
        near("mean", mean, 5e6, 0.005);
        near("standard deviation", deviation, 5e6 * ((sigma * sigma).exp() - 1.0).sqrt(), 0.03);
        let median = 5e6 * (-sigma * sigma / 2.0).exp();
        let below = (0..N).filter(|&n| (draw(&law, 7, n) as f64) < median).count();
        near("share under the median", below as f64, N as f64 / 2.0, 0.005);
    }

    #[test]
    fn draws_are_pure_and_differ_by_seed_and_number() {
        let law = Law::Exponential { mean_ns: 1_000_000_000 };
        let forward: Vec<u64> = (0..1000).map(|n| draw(&law, 3, n)).collect();
        let backward: Vec<u64> = (0..1000).rev().map(|n| draw(&law, 3, n)).rev().collect();
        assert_eq!(forward, backward, "a draw depends on the draws before it");
        let other: Vec<u64> = (0..1000).map(|n| draw(&law, 4, n)).collect();
        for shift in 0..10 {
            assert_ne!(forward[shift..][..900], other[..900], "seed 4 is seed 3 shifted");
            assert_ne!(forward[..900], other[shift..][..900], "seed 3 is seed 4 shifted");
        }
        let mut distinct = forward.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 990, "draws repeat: {} distinct of 1000", distinct.len());
    }

    #[test]
    fn draws_are_the_same_in_every_version() {
        // A record names its seed only; these values keep it meaning the same requests.
        let law = Law::Uniform { min_ns: 0, max_ns: u64::MAX };
        let got: Vec<u64> = (0..3).map(|n| draw(&law, 1, n)).collect();
        let expected =
            [6_791_897_765_849_424_158, 17_405_687_883_870_564_846, 834_844_254_806_117_752];
        assert_eq!(got, expected);
    }

    #[test]
    fn faults_have_their_shares_and_are_independent_of_service_times() {
        let faults = InjectedFaults { error_rate: 0.2, reset_rate: 0.05, stall: None };
        let law = Law::Uniform { min_ns: 0, max_ns: 1_000_000 };
        let (mut errors, mut resets, mut service_of_errors) = (0, 0, 0.0);
        for n in 0..N {
            match fault(&faults, 7, n) {
                InjectedFault::None => {}
                InjectedFault::Error => {
                    errors += 1;
                    service_of_errors += draw(&law, 7, n) as f64;
                }
                InjectedFault::Reset => resets += 1,
            }
        }
        near("errors", f64::from(errors), 0.2 * N as f64, 0.01);
        near("resets", f64::from(resets), 0.05 * N as f64, 0.02);
        near("service time of errors", service_of_errors / f64::from(errors), 5e5, 0.01);
        assert_eq!(
            fault(&InjectedFaults { error_rate: 1.0, ..InjectedFaults::default() }, 1, 1),
            InjectedFault::Error
        );
        assert_eq!(
            fault(&InjectedFaults { reset_rate: 1.0, ..InjectedFaults::default() }, 1, 1),
            InjectedFault::Reset
        );
    }

    #[test]
    fn stalls_begin_after_one_period_and_hold_until_their_end() {
        let stall = Stall { every_ns: 100, for_ns: 30 };
        let cases = [
            (0, 0), // Before the start.
            (1_000, 1_000),
            (1_010, 1_010), // k = 0 is no stall.
            (1_099, 1_099),
            (1_100, 1_130),
            (1_129, 1_130),
            (1_130, 1_130),
            (1_199, 1_199),
            (1_200, 1_230),
            (1_765, 1_765),
        ];
        for (at, expected) in cases {
            assert_eq!(after_stall(&stall, 1_000, at), expected, "at {at}");
        }
    }
}
