//! What is left of an error budget: the share of requests that an objective allows to be bad, less
//! the share that was bad in the cells on either side of the planned rate.

use std::borrow::Cow;

use serde::Serialize;

use super::point::Point;
use super::{Figure, Question};
use crate::format::{TrialRecord, histogram};
use crate::stats::{CONFIDENCE, share_error, student_t_quantile};
use crate::units::{format_count, format_ns, format_share};

/// Days over which a budget is kept.
const DAYS: f64 = 28.0;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Budget {
    /// In words: `99.9 % answered`.
    pub objective: String,
    /// Share of requests that may be bad.
    pub allowed: f64,
    /// Requests that were bad, and all, in the cells behind it.
    pub bad: u64,
    pub of: u64,
    /// Largest share that the measurement leaves open, with 97.5 % confidence.
    pub at_most: f64,
    /// Share of the budget that is left at the measured share; negative where it is overspent.
    pub left: f64,
    /// The same at the largest share that the measurement leaves open.
    pub left_at_least: f64,
    pub figures: Vec<Figure>,
}

/// The budgets of a question's objectives, from the cells on either side of the planned rate.
pub(super) fn budgets(q: &Question, points: &[&Point<'_>]) -> Vec<Budget> {
    let of_class = q.class.as_ref().map_or(String::new(), |name| format!(" of {name}"));
    let answered = q.availability.map(|share| {
        let bad = |t: &TrialRecord| Some(t.ledger.lost());
        budget(q, format!("{} answered{of_class}", format_share(share)), 1.0 - share, points, &bad)
    });
    let in_time = q.p99_ns.map(|most| {
        let bad = |t: &TrialRecord| {
            let within = histogram::decode(&t.latency()?.hdr).ok()?.count_between(0, most);
            // What was given up stands in the histogram above every bound that counts.
            Some(t.ledger.planned.saturating_sub(within.min(t.ledger.completed)))
        };
        let objective = format!("99 % within {}{of_class}", format_ns(most as f64));
        budget(q, objective, 0.01, points, &bad)
    });
    answered.into_iter().chain(in_time).flatten().collect()
}

fn budget(
    q: &Question,
    objective: String,
    allowed: f64,
    points: &[&Point<'_>],
    bad: &dyn Fn(&TrialRecord) -> Option<u64>,
) -> Option<Budget> {
    let pair = |t: &Cow<'_, TrialRecord>| Some((bad(t)?, t.ledger.planned));
    // The worse of the two cells: a tail grows faster than a line between them.
    let pairs = points.iter().map(|p| p.judged.iter().filter_map(pair).collect::<Vec<_>>());
    let worst = pairs.max_by(|a, b| at_most(a).total_cmp(&at_most(b)))?;
    let (bad, of) = worst.iter().fold((0, 0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
    if of == 0 || allowed <= 0.0 {
        return None;
    }
    let at_most = at_most(&worst);
    let left = |share: f64| 1.0 - share / allowed;
    let from: Vec<String> = points.iter().map(|p| p.cell.id.clone()).collect();
    let figure =
        |name: &str, value: f64, text: String| Figure::new(name, value, text, from.clone());
    let minutes = DAYS * 24.0 * 60.0 * allowed;
    let part = points.iter().map(|p| p.judged_share()).fold(0.0, f64::max);
    let requests = q.rate_per_s * part * DAYS * 86_400.0 * allowed;
    let share = bad as f64 / of as f64;
    let whole = |n: f64| match n < 0.0 {
        true => format!("-{}", format_count(-n as u64)),
        false => format_count(n as u64),
    };
    let figures = vec![
        figure("bad", bad as f64, format!("{} of {}", format_count(bad), format_count(of))),
        figure("at_most", at_most, format!("{:.2} %", at_most * 100.0)),
        figure("budget_minutes", minutes, format!("{minutes:.1} min")),
        figure("budget_requests", requests, whole(requests)),
        figure("left", left(share), format!("{:.0} %", left(share) * 100.0)),
        figure("left_at_least", left(at_most), format!("{:.0} %", left(at_most) * 100.0)),
        figure("left_minutes", left(share) * minutes, format!("{:.1} min", left(share) * minutes)),
        figure("left_requests", left(share) * requests, whole(left(share) * requests)),
    ];
    let (left, left_at_least) = (left(share), left(at_most));
    Some(Budget { objective, allowed, bad, of, at_most, left, left_at_least, figures })
}

/// Upper end of the share of bad requests with 97.5 % confidence: by the spread over trials, on the
/// logarithm, as requests are bad in bursts; and by the count, which is all that is known of none.
fn at_most(pairs: &[(u64, u64)]) -> f64 {
    let (bad, of) = pairs.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0 as f64, s.1 + p.1 as f64));
    if of <= 0.0 {
        return 1.0;
    }
    let share = bad / of;
    let error = (1.0 - CONFIDENCE) / 2.0;
    // Of a Poisson count, by the chi-squared approximation of Wilson and Hilferty; none bad leaves
    // −ln(error) open.
    let by_count = match bad {
        0.0 => -error.ln(),
        _ => {
            let (m, z) = (bad + 1.0, crate::stats::normal_quantile(1.0 - error));
            m * (1.0 - 1.0 / (9.0 * m) + z / (3.0 * m.sqrt())).powi(3)
        }
    } / of;
    if pairs.len() < 2 || share <= 0.0 {
        return by_count.min(1.0);
    }
    let reach = student_t_quantile(1.0 - error, pairs.len() - 1) * share_error(pairs, share);
    let by_trials = share * (reach / share).exp();
    by_trials.max(by_count).min(1.0)
}
