//! A gate that failed, with its figures and the way out; docs/gates.md says more.

pub(crate) use crate::format::gates::meaning;
use crate::format::gates::{GateFigure, GateKind};
use crate::units::{format_ns, trimmed};

/// What to do where a hard gate failed.
pub(crate) fn way_out(gate: &str) -> Option<&'static str> {
    GateKind::of(gate)?.way_out()
}

/// `other processes used the load generator's CPUs (foreign_cpu_share 97.6 %, limit 10 %)`.
pub(crate) fn failure(gate: &str, value: Option<f64>, limit: Option<f64>) -> String {
    let (value, limit) = match (value, limit) {
        (Some(value), Some(limit)) => {
            let (value, limit) = apart(gate, value, limit);
            (format!(" {value}"), format!(", limit {limit}"))
        }
        (Some(value), None) => (format!(" {}", number(gate, value, 1)), String::new()),
        _ => Default::default(),
    };
    let figures = format!("{gate}{value}{limit}");
    meaning(gate).map_or(figures.clone(), |words| format!("{words} ({figures})"))
}

/// Both numbers, with as many decimals as tell them apart.
fn apart(gate: &str, value: f64, limit: f64) -> (String, String) {
    let both = |decimals| (number(gate, value, decimals), number(gate, limit, decimals));
    (1..6).map(both).find(|(value, limit)| value != limit).unwrap_or_else(|| both(6))
}

fn number(gate: &str, value: f64, decimals: usize) -> String {
    let (value, unit) = match GateKind::of(gate).map(GateKind::figure) {
        Some(GateFigure::Time) => return format_ns(value),
        Some(GateFigure::Share) => (value * 100.0, " %"),
        Some(GateFigure::Count) | None => (value, ""),
    };
    format!("{}{unit}", trimmed(&format!("{value:.decimals$}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_has_words() {
        let page = include_str!("../../docs/gates.md");
        for name in GateKind::ALL.map(GateKind::name) {
            assert!(meaning(name).is_some_and(|words| !words.is_empty()), "{name}");
            assert!(page.contains(&format!("`{name}`")), "docs/gates.md: {name}");
        }
    }

    #[test]
    fn rounding_never_hides_by_how_much_a_limit_was_passed() {
        assert_eq!(
            failure("steal_share", Some(0.0104), Some(0.01)),
            "the hypervisor took CPU time away (steal_share 1.04 %, limit 1 %)"
        );
        assert_eq!(failure("other", Some(3.0), Some(2.5)), "other 3, limit 2.5");
        let late = failure("pacer_delay_p99_ns", Some(245e3), Some(200e3));
        assert_eq!(late, "duel sent its requests late (pacer_delay_p99_ns 245 µs, limit 200 µs)");
    }
}
