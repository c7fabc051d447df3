//! What a gate that failed means, in words.

/// The gate that says what the user asked for, not what disturbed it.
pub(crate) const LINGER: &str = "linger_share";

/// What happened where a gate failed; `None` for names that only other versions know.
pub(crate) fn meaning(gate: &str) -> Option<&'static str> {
    Some(match gate {
        "ledger_balanced" => "requests are missing from the ledger",
        "connected_lanes" => "not every lane had a connection when the trial began",
        "delivered_rate" => "duel sent fewer requests than the plan asks for",
        "target_received" => "the target did not count as many requests as were sent",
        "pacer_delay_p99_ns" => "duel sent its requests late",
        "late_p99_ns" => "duel sent its requests a little late, which shows in response times",
        "throttled_share" => "a CPU quota stopped duel",
        "target_throttled_share" => "a CPU quota stopped the server",
        "worker_cpu_share" => "the load generator's own CPU was nearly fully used",
        "client_cpu_share" => {
            "the client's CPU was full and the server's was not, so that the rate is the client's"
        }
        "littles_law" => "requests in flight do not agree with rate × time",
        "stopped_ns" => "a worker or target was stopped by a signal",
        "steal_share" => "the hypervisor took CPU time away",
        "foreign_cpu_share" => "other processes used the load generator's CPUs",
        LINGER => "waiting for a batch held responses back",
        "shards_together" => "not every shard took part",
        "start_late_ns" => "a shard started late",
        "start_skew_ns" => "the shards started at different times",
        "clock_offset_ns" => "the clocks of two shards are too far apart",
        _ => return None,
    })
}
