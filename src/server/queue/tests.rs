use proptest::prelude::*;

use super::VirtualQueue;
use crate::plan::target::Law;
use crate::server::laws;

/// Departures of (arrival, service) pairs.
fn departures(servers: u32, customers: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut queue = VirtualQueue::new(servers);
    customers.iter().map(|&(arrival, service)| queue.departure(arrival, service)).collect()
}

#[test]
fn one_server_serves_in_order_and_idles_between() {
    let got = departures(1, &[(0, 10), (1, 10), (5, 1), (100, 3)]);
    assert_eq!(got, [(0, 10), (10, 20), (20, 21), (100, 103)]);
}

#[test]
fn two_servers_hand_the_next_customer_to_the_earlier_one() {
    let got = departures(2, &[(0, 10), (0, 4), (1, 2), (1, 9), (2, 1)]);
    assert_eq!(got, [(0, 10), (0, 4), (4, 6), (6, 15), (10, 11)]);
}

#[test]
fn no_limit_means_no_waiting() {
    let got = departures(0, &[(0, 10), (0, 10), (0, 10)]);
    assert_eq!(got, [(0, 10); 3]);
}

#[test]
fn huge_times_saturate_instead_of_wrapping() {
    let got = departures(1, &[(5, u64::MAX), (6, 1)]);
    assert_eq!(got, [(5, u64::MAX), (u64::MAX, u64::MAX)]);
}

#[test]
fn unused_servers_cost_no_memory() {
    let mut queue = VirtualQueue::new(u32::MAX);
    for arrival in 0..1000 {
        queue.departure(arrival * 10, 15);
    }
    assert!(queue.free_at.len() <= 2, "kept {} servers for two at once", queue.free_at.len());
}

proptest! {
    /// Against the plainest form of the same recursion: an array of servers, searched in full.
    #[test]
    fn agrees_with_a_search_over_all_servers(
        servers in 1u32..6,
        customers in prop::collection::vec((0u64..20, 0u64..50), 0..200),
    ) {
        let mut clock = 0;
        let mut queue = VirtualQueue::new(servers);
        let mut free_at = vec![0u64; servers as usize];
        for (gap, service) in customers {
            clock += gap;
            let earliest = free_at.iter_mut().min().expect("at least one server");
            let start = clock.max(*earliest);
            *earliest = start + service;
            prop_assert_eq!(queue.departure(clock, service), (start, start + service));
        }
    }
}

/// Mean wait of M/M/c in units of the mean service time, through Erlang's B recursion
/// B(k) = a·B(k−1) / (k + a·B(k−1)), C = B / (1 − ρ(1 − B)), Wq = C / (c(1 − ρ)).
fn erlang_c_wait(servers: u32, utilisation: f64) -> f64 {
    let c = f64::from(servers);
    let a = c * utilisation;
    let b = (1..=servers).fold(1.0, |b, k| a * b / (f64::from(k) + a * b));
    let wait_probability = b / (1.0 - utilisation * (1.0 - b));
    wait_probability / (c * (1.0 - utilisation))
}

#[test]
fn erlang_c_oracle_meets_published_values() {
    // C(2, 1.6) = 0.71111111 with Wq = 1.77777778, and M/M/1 at 0.8 waits 4 S.
    assert!((erlang_c_wait(2, 0.8) - 1.777_777_78).abs() < 1e-8);
    assert!((erlang_c_wait(1, 0.8) - 4.0).abs() < 1e-12);
}

/// 10⁷ Poisson customers with exponential services against the closed form, within 2 %.
fn meets_erlang_c(servers: u32, utilisation: f64) {
    const CUSTOMERS: u64 = 10_000_000;
    const MEAN_SERVICE_NS: u64 = 1_000_000;
    let services = Law::Exponential { mean_ns: MEAN_SERVICE_NS };
    let mean_gap = MEAN_SERVICE_NS as f64 / (f64::from(servers) * utilisation);
    let gaps = Law::Exponential { mean_ns: mean_gap as u64 };
    let mut queue = VirtualQueue::new(servers);
    let (mut clock, mut waited) = (0, 0u64);
    for n in 0..CUSTOMERS {
        clock += laws::draw(&gaps, 1, n);
        let (start, _) = queue.departure(clock, laws::draw(&services, 2, n));
        waited += start - clock;
    }
    let mean = waited as f64 / CUSTOMERS as f64 / MEAN_SERVICE_NS as f64;
    let expected = erlang_c_wait(servers, utilisation);
    let error = (mean / expected - 1.0).abs();
    assert!(
        error < 0.02,
        "c = {servers}, rho = {utilisation}: mean wait {mean:.5} S, Erlang-C {expected:.5} S"
    );
}

#[test]
fn erlang_c_one_server_half_busy() {
    meets_erlang_c(1, 0.5);
}

#[test]
fn erlang_c_one_server_busy() {
    meets_erlang_c(1, 0.8);
}

#[test]
fn erlang_c_two_servers_half_busy() {
    meets_erlang_c(2, 0.5);
}

#[test]
fn erlang_c_two_servers_busy() {
    meets_erlang_c(2, 0.8);
}

#[test]
fn erlang_c_four_servers_half_busy() {
    meets_erlang_c(4, 0.5);
}

#[test]
fn erlang_c_four_servers_busy() {
    meets_erlang_c(4, 0.8);
}
