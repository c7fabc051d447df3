//! A share of requests with its interval, trials being what is drawn at random.

use super::{CONFIDENCE, normal_quantile, student_t_quantile};

/// Standard error of a share by how two trials or more differ in it (the ratio of sums of Cochran,
/// "Sampling Techniques" 1977, section 6.3).
pub(crate) fn share_error(trials: &[(u64, u64)], share: f64) -> f64 {
    let (n, all) = (trials.len() as f64, trials.iter().map(|t| t.1).sum::<u64>() as f64);
    let off = |t: &(u64, u64)| (t.0 as f64 - share * t.1 as f64).powi(2);
    (trials.iter().map(off).sum::<f64>() / (n - 1.0) * n).sqrt() / all
}

/// A share of all requests, and how far from it the true one may be at [`CONFIDENCE`].
///
/// `trials` holds what is counted and all requests of each. Requests of a trial share its fortune,
/// so that the spread between trials says how well the share is known ([`share_error`]), but no better
/// than as many independent requests would.
/// Of one trial there is no more to go by than that. `None` without a request.
pub(crate) fn clustered_share(trials: &[(u64, u64)]) -> Option<(f64, f64)> {
    let (counted, all) =
        trials.iter().fold((0.0, 0.0), |s, t| (s.0 + t.0 as f64, s.1 + t.1 as f64));
    if all <= 0.0 {
        return None;
    }
    let share = counted / all;
    let independent = (share * (1.0 - share) / all).sqrt();
    let tail = 0.5 + CONFIDENCE / 2.0;
    if trials.len() < 2 {
        return Some((share, normal_quantile(tail) * independent));
    }
    let reach = student_t_quantile(tail, trials.len() - 1) * share_error(trials, share);
    Some((share, reach.max(normal_quantile(tail) * independent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_known_as_well_as_its_trials_agree() {
        assert_eq!(clustered_share(&[]), None);
        assert_eq!(clustered_share(&[(0, 0)]), None);
        let (share, alone) = clustered_share(&[(10, 1_000)]).unwrap();
        assert!((share - 0.01).abs() < 1e-12 && (0.005..0.007).contains(&alone), "{alone}");
        // Trials that agree to the request prove no more than independent requests.
        let (_, calm) = clustered_share(&[(10, 1_000); 10]).unwrap();
        assert!((alone / calm - 10f64.sqrt()).abs() < 1e-9, "{alone} {calm}");
        // One trial of ten with all of the late requests: hardly anything is known.
        let mut bursts = [(0, 1_000); 10];
        bursts[3].0 = 100;
        let (share, burst) = clustered_share(&bursts).unwrap();
        assert!(burst > share && burst > 3.0 * calm, "{burst}");
    }
}
