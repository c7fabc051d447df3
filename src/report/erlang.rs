//! Erlang's formulas for c lanes that share one queue (M/M/c).
//!
//! `load` is the offered load in Erlang: arrivals per second × mean time in service, which by
//! Little's law is the mean number in service. A. K. Erlang (1917); the recursion avoids factorials.

/// Share of arrivals that wait with 1, 2, 3 … lanes (Erlang C): 1 where those cannot keep up.
fn waiting_by_lanes(load: f64) -> impl Iterator<Item = f64> {
    // Erlang B: the share that would find every lane busy where none may wait.
    (1..=u32::MAX).scan(1.0, move |blocked, lanes| {
        let lanes = f64::from(lanes);
        *blocked *= load / (lanes + load * *blocked);
        let busy = load / lanes;
        Some(if busy < 1.0 { *blocked / (1.0 - busy * (1.0 - *blocked)) } else { 1.0 })
    })
}

/// Share of arrivals that wait for one of `lanes`, at least one.
pub fn waiting(lanes: u32, load: f64) -> f64 {
    waiting_by_lanes(load).nth(lanes.saturating_sub(1) as usize).unwrap_or(1.0)
}

/// Fewest lanes with which at most `share` of the arrivals wait; `None` for a load that is negative,
/// not finite or beyond ten million.
pub fn lanes_for(load: f64, share: f64) -> Option<u32> {
    if !(0.0..=1e7).contains(&load) || share.is_nan() || share <= 0.0 {
        return None;
    }
    // Lanes that cannot keep up are never enough, though all may wait.
    let keeps_up = |&(wait, lanes): &(f64, u32)| wait <= share && load < f64::from(lanes);
    waiting_by_lanes(load).zip(1..).find(keeps_up).map(|(_, lanes)| lanes)
}
