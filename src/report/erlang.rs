//! Erlang's formulas for c lanes that share one queue (M/M/c).
//!
//! `load` is the offered load in Erlang: arrivals per second × mean time in service, which by
//! Little's law is the mean number in service. A. K. Erlang (1917); the recursion avoids factorials.

/// Share of arrivals that find every one of `lanes` busy where none may wait (Erlang B).
pub fn blocked(lanes: u32, load: f64) -> f64 {
    (1..=lanes).fold(1.0, |b, k| load * b / (f64::from(k) + load * b))
}

/// Share of arrivals that wait (Erlang C); 1 where the lanes cannot keep up.
pub fn waiting(lanes: u32, load: f64) -> f64 {
    let busy = load / f64::from(lanes);
    if lanes == 0 || busy >= 1.0 {
        return 1.0;
    }
    let b = blocked(lanes, load);
    b / (1.0 - busy * (1.0 - b))
}

/// Mean wait in units of the mean time in service; infinite where the lanes cannot keep up.
pub fn mean_wait(lanes: u32, load: f64) -> f64 {
    let spare = f64::from(lanes) - load;
    if spare <= 0.0 { f64::INFINITY } else { waiting(lanes, load) / spare }
}

/// Fewest lanes with which at most `share` of the arrivals wait; `None` for a load that is negative,
/// not finite or beyond ten million.
pub fn lanes_for(load: f64, share: f64) -> Option<u32> {
    if !(0.0..=1e7).contains(&load) || share.is_nan() || share <= 0.0 {
        return None;
    }
    let mut b = 1.0;
    for lanes in 1..=u32::MAX {
        let c = f64::from(lanes);
        b = load * b / (c + load * b);
        let busy = load / c;
        if busy < 1.0 && b / (1.0 - busy * (1.0 - b)) <= share {
            return Some(lanes);
        }
    }
    None
}
