//! Every gate once: its name in rows, whether failing it makes a trial `invalid` rather than `noisy`,
//! what it sees, what it means that it failed, and what helps. docs/gates.md says more of each.

use super::Gate;

/// What a gate sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateFigure {
    Count,
    Share,
    Time,
}

macro_rules! gates {
    ($($(#[$about:meta])* $kind:ident = $name:literal, $hard:literal, $figure:ident,
        $meaning:literal $(, $way_out:literal)?;)*) => {
        crate::plan::named! {
            /// What a gate checks.
            pub enum GateKind {
                $($(#[$about])* $kind = $name,)*
            }
        }

        impl GateKind {
            fn is_hard(self) -> bool {
                match self { $(GateKind::$kind => $hard,)* }
            }

            pub(crate) fn figure(self) -> GateFigure {
                match self { $(GateKind::$kind => GateFigure::$figure,)* }
            }

            fn meaning(self) -> &'static str {
                match self { $(GateKind::$kind => $meaning,)* }
            }

            pub(crate) fn way_out(self) -> Option<&'static str> {
                match self { $(GateKind::$kind => None$(.or(Some($way_out)))?,)* }
            }
        }
    };
}

gates! {
    Ledger = "ledger_balanced", true, Count, "requests are missing from the ledger",
        "please report it, unless something else called it";
    ConnectedLanes = "connected_lanes", true, Count,
        "not every lane had a connection when the trial began", "`duel limits` names the limit";
    DeliveredRate = "delivered_rate", true, Share, "duel sent fewer requests than the plan asks for",
        "lower the rate, add lanes, or give the load generator more CPUs";
    TargetReceived = "target_received", true, Count,
        "the target did not count as many requests as were sent",
        "please report it, unless something else called it";
    PacerDelay = "pacer_delay_p99_ns", true, Time, "duel sent its requests late",
        "close other programs, move the server to another CPU, or lower the rate";
    WorkerCpu = "worker_cpu_share", true, Share,
        "the load generator's own CPU was nearly fully used",
        "lower the rate, or use more CPUs, processes or machines";
    ClientCpu = "client_cpu_share", true, Share,
        "the client's CPU was full and the server's was not, so that the rate is the client's",
        "offer a rate (plan.arrivals and sweep.rates), or give the client more CPUs or processes";
    LittlesLaw = "littles_law", true, Count, "requests in flight do not agree with rate × time",
        "run again";
    Stopped = "stopped_ns", true, Time, "a worker or target was stopped by a signal", "run again";
    Late = "late_p99_ns", false, Time,
        "duel sent its requests a little late, which shows in response times";
    // A quota that stops threads shows as a server that does not answer.
    Throttled = "throttled_share", false, Share, "a CPU quota stopped duel";
    TargetThrottled = "target_throttled_share", false, Share, "a CPU quota stopped the server";
    Steal = "steal_share", false, Share, "the hypervisor took CPU time away";
    ForeignCpu = "foreign_cpu_share", false, Share,
        "other processes used the load generator's CPUs";
    /// The one that says what the user asked for, not what disturbed it.
    Linger = "linger_share", false, Share, "waiting for a batch held responses back";
    ShardsTogether = "shards_together", true, Count, "not every shard took part";
    StartLate = "start_late_ns", true, Time, "a shard started late";
    StartSkew = "start_skew_ns", true, Time, "the shards started at different times";
    ClockOffset = "clock_offset_ns", true, Time, "the clocks of two shards are too far apart";
}

impl GateKind {
    /// The gate of a name; `None` for names that only other versions know.
    pub(crate) fn of(name: &str) -> Option<GateKind> {
        GateKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Gate {
    /// A gate by whether it holds, what was seen and what is allowed; `None` bars nothing.
    pub(crate) fn new(kind: GateKind, decided: Option<(bool, f64, f64)>) -> Gate {
        Gate {
            name: kind.name().into(),
            hard: kind.is_hard(),
            ok: decided.map(|(ok, _, _)| ok),
            value: decided.map(|(_, value, _)| value),
            limit: decided.map(|(_, _, limit)| limit),
        }
    }

    pub(crate) fn is(&self, kind: GateKind) -> bool {
        self.name == kind.name()
    }

    pub(crate) fn failed(&self) -> bool {
        self.ok == Some(false)
    }
}

/// What happened where a gate failed; `None` for names that only other versions know.
pub(crate) fn meaning(gate: &str) -> Option<&'static str> {
    GateKind::of(gate).map(GateKind::meaning)
}
