//! What the ladders say in a sentence: bytes per lane, and threads against tasks.

use super::Ladder;
use crate::plan::engine::LaneKind;
use crate::stats::{CONFIDENCE, LinearFit, student_t_quantile};
use crate::units::{Ratio, format_bytes, format_count};

/// `27.1 KiB [26.9 KiB, 27.3 KiB]`.
pub(crate) fn bytes_and_interval(fit: &LinearFit) -> String {
    let interval = fit.slope_interval.map_or(String::new(), |(low, high)| {
        format!(" [{}, {}]", format_bytes(low), format_bytes(high))
    });
    format!("{}{interval}", format_bytes(fit.slope))
}

/// One sentence for the ladders that the question is about, `threads` against `tokio` with each
/// stack size; one for the most expensive and the cheapest where either is missing; none without a ladder.
pub fn sentences(ladders: &[Ladder]) -> Vec<String> {
    let of = |lane| ladders.iter().filter(move |l| l.lane == lane);
    // Ladders come in the order of the engines.
    let task = of(LaneKind::Task).next();
    let pairs: Vec<(&Ladder, &Ladder)> =
        task.map(|t| of(LaneKind::Thread).map(|l| (l, t)).collect()).unwrap_or_default();
    if pairs.is_empty() {
        return extremes(ladders).into_iter().collect();
    }
    pairs.into_iter().filter_map(|(thread, task)| against(thread, task)).collect()
}

fn extremes(ladders: &[Ladder]) -> Option<String> {
    let slope = |l: &&Ladder| l.whole().map_or(0.0, |(fit, _)| fit.slope);
    let by = |a: &&Ladder, b: &&Ladder| slope(a).total_cmp(&slope(b));
    let known = || ladders.iter().filter(|l| l.whole().is_some());
    let (dear, cheap) = (known().max_by(by)?, known().min_by(by)?);
    if ladders.len() > 1 {
        return against(dear, cheap);
    }
    let (fit, counted) = dear.whole()?;
    Some(format!(
        "One more {} of {} took {} ({}, {}).",
        dear.what,
        dear.name,
        bytes_and_interval(fit),
        scope(counted),
        range(dear)
    ))
}

fn against(dear: &Ladder, cheap: &Ladder) -> Option<String> {
    // A total beside known parts alone would compare two different things.
    let both = (dear.fit(super::TOTAL.name), cheap.fit(super::TOTAL.name));
    let (a, b, counted) = match both {
        (Some(a), Some(b)) => (a, b, true),
        _ => (dear.fit(super::KNOWN.name)?, cheap.fit(super::KNOWN.name)?, false),
    };
    let times = match ratio(a, b) {
        Some((ratio, Some((low, high)))) => {
            let same = if low <= 1.0 && 1.0 <= high { ", no difference shown" } else { "" };
            format!(": {} [{low:.2}, {high:.2}] as much{same}", Ratio(ratio))
        }
        Some((ratio, None)) => format!(": {} as much", Ratio(ratio)),
        None => ": no ratio, since a slope may be zero".into(),
    };
    Some(format!(
        "One more {} took {} as {}, {} as {}{times} ({}, {}).",
        dear.what,
        bytes_and_interval(a),
        dear.name,
        bytes_and_interval(b),
        cheap.name,
        scope(counted),
        range(dear)
    ))
}

fn scope(counted: bool) -> &'static str {
    if counted {
        "user space and kernel"
    } else {
        "the parts that could be counted: no memory cgroup told the total"
    }
}

fn range(ladder: &Ladder) -> String {
    let (low, high) = ladder.lanes;
    format!("{} to {} lanes", format_count(low.into()), format_count(high.into()))
}

/// The ratio of two slopes with its interval: standard errors of independent logarithms add in
/// quadrature (the delta method), with the degrees of freedom of the shorter ladder. `None` where an
/// interval reaches zero, through which no logarithm goes.
fn ratio(a: &LinearFit, b: &LinearFit) -> Option<(f64, Option<(f64, f64)>)> {
    if a.slope <= 0.0 || b.slope <= 0.0 {
        return None;
    }
    let ratio = a.slope / b.slope;
    let (Some(x), Some(y)) = (a.slope_interval, b.slope_interval) else {
        return Some((ratio, None));
    };
    if x.0 <= 0.0 || y.0 <= 0.0 {
        return None;
    }
    let t = |f: &LinearFit| student_t_quantile(0.5 + CONFIDENCE / 2.0, f.n.saturating_sub(2));
    let error = |f: &LinearFit, (low, high): (f64, f64)| (high - low) / 2.0 / t(f) / f.slope;
    let spread = t(if a.n < b.n { a } else { b }) * error(a, x).hypot(error(b, y));
    Some((ratio, Some((ratio * (-spread).exp(), ratio * spread.exp()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Engine;
    use crate::stats::linear_fit;

    fn ladder(engine: Engine, slope: f64, noise: f64) -> Ladder {
        let lanes = [100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];
        let points: Vec<(f64, f64)> = lanes
            .iter()
            .enumerate()
            .map(|(i, n)| (*n, 5e5 + slope * n + noise * if i % 2 == 0 { 1.0 } else { -1.0 }))
            .collect();
        let fit = linear_fit(&points, CONFIDENCE).unwrap();
        let fits = vec![("known", "known parts", fit), ("total", "total", fit)];
        let name = engine.name().into();
        let (lane, what) = (engine.facts().lane, "lane");
        Ladder { lane, what, name, lanes: (100, 10_000), fits, most_unattributed: None }
    }

    #[test]
    fn threads_stand_against_tokio_with_an_interval_that_widens_with_the_noise() {
        let all = |noise| {
            vec![
                ladder(Engine::Threads, 40_960.0, noise),
                ladder(Engine::Rayon, 51_200.0, noise),
                ladder(Engine::Tokio, 5_120.0, noise),
            ]
        };
        let said = sentences(&all(0.0));
        assert_eq!(
            said,
            [
                "One more lane took 40 KiB [40 KiB, 40 KiB] as threads, 5 KiB [5 KiB, 5 KiB] as tokio: \
              8.00× [8.00, 8.00] as much (user space and kernel, 100 to 10,000 lanes)."
            ]
        );
        let noisy = all(1e6);
        let (a, b) = (noisy[0].whole().unwrap().0, noisy[2].whole().unwrap().0);
        let (ratio, interval) = ratio(a, b).unwrap();
        let (low, high) = interval.unwrap();
        assert!(low < ratio && ratio < high && high / low > 1.05, "{low} {ratio} {high}");
    }

    #[test]
    fn a_slope_that_may_be_zero_has_no_ratio_and_no_total_is_said() {
        let mut flat = ladder(Engine::Tokio, 1.0, 1e6);
        let thread = ladder(Engine::Threads, 40_960.0, 1.0);
        assert!(sentences(&[thread, ladder(Engine::Tokio, 1.0, 1e6)])[0].contains("no ratio"));
        flat.fits.retain(|(name, ..)| *name != "total");
        let one = sentences(&[flat]);
        assert!(one[0].contains("no memory cgroup told the total"), "{one:?}");
        assert!(sentences(&[]).is_empty());
    }
}
