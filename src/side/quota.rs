//! CPU quotas: how much of the machine a cgroup may use, and for how long it was stopped for that.
//!
//! A quota lets a cgroup run until it is used up and then stops all of its threads until the period
//! ends. Whoever measures from inside sees a server that did not answer for tens of milliseconds.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupPlace, Version, read_number};
use crate::format::Reason;

/// The tightest quota that a process is held to, of its cgroup and all above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    pub quota_us: u64,
    pub period_us: u64,
    pub file: PathBuf,
}

impl CpuQuota {
    /// That of this process; `None` where there is none, or none can be seen.
    pub(crate) fn own() -> Option<CpuQuota> {
        let place = CgroupPlace::of("cpu").ok()?;
        let quotas = place.path_to_root().filter_map(|dir| match place.version {
            Version::V1 => {
                let file = dir.join("cpu.cfs_quota_us");
                // No quota is -1, which is no number here.
                let (quota_us, period_us) =
                    (read_number(&file).ok()?, read_number(dir.join("cpu.cfs_period_us")).ok()?);
                Some(CpuQuota { quota_us, period_us, file })
            }
            Version::V2 => {
                let file = dir.join("cpu.max");
                let (quota_us, period_us) = parse_max(&fs::read_to_string(&file).ok()?)?;
                Some(CpuQuota { quota_us, period_us, file })
            }
        });
        quotas.filter(|q| q.period_us > 0).min_by(|a, b| a.cpus().total_cmp(&b.cpus()))
    }

    /// In CPUs' worth: 0.5 is half a CPU.
    pub(crate) fn cpus(&self) -> f64 {
        self.quota_us as f64 / self.period_us as f64
    }

    /// CPUs that can be kept busy without being stopped; one at least.
    pub(crate) fn whole_cpus(&self) -> u32 {
        (self.cpus().floor() as u32).max(1)
    }
}

impl std::fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cpus = format!("{:.2}", self.cpus());
        let cpus = cpus.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{cpus} CPUs ({})", self.file.display())
    }
}

/// `50000 100000` of `cpu.max`; `None` for `max 100000`.
fn parse_max(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

/// For how long a cgroup, or one above it, was stopped by its quota so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// Periods that ended in a stop.
    pub periods: u64,
    /// Summed over the CPUs on which its threads had to wait.
    pub ns: u64,
}

impl Throttled {
    /// That of a process.
    ///
    /// # Errors
    /// Why it cannot be seen, in half a sentence.
    pub(crate) fn of(pid: u32) -> Result<Throttled, Reason> {
        let place = CgroupPlace::of_process("cpu", pid)?;
        let stats = place
            .path_to_root()
            .filter_map(|dir| Some(parse_stat(&fs::read_to_string(dir.join("cpu.stat")).ok()?)));
        // The root has no quota and says nothing of one.
        Ok(stats.fold(Throttled::default(), |sum, one| Throttled {
            periods: sum.periods.saturating_add(one.periods),
            ns: sum.ns.saturating_add(one.ns),
        }))
    }

    pub(crate) fn since(self, then: Throttled) -> Throttled {
        Throttled {
            periods: self.periods.saturating_sub(then.periods),
            ns: self.ns.saturating_sub(then.ns),
        }
    }
}

/// `cpu.stat` of either version: v1 says `throttled_time` in ns, v2 `throttled_usec`.
fn parse_stat(text: &str) -> Throttled {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|v| v.trim().parse::<u64>().ok())
    };
    let ns =
        field("throttled_time").or_else(|| Some(field("throttled_usec")?.saturating_mul(1_000)));
    Throttled { periods: field("nr_throttled").unwrap_or(0), ns: ns.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let v1 = "nr_periods 7\nnr_throttled 5\nthrottled_time 400000000\n";
        let v2 = "usage_usec 9\nnr_periods 7\nnr_throttled 5\nthrottled_usec 400000\nnr_bursts 0\n";
        for text in [v1, v2] {
            assert_eq!(parse_stat(text), Throttled { periods: 5, ns: 400_000_000 });
        }
        assert_eq!(parse_stat("usage_usec 9\n"), Throttled::default(), "without the controller");
        assert_eq!(parse_max("50000 100000\n"), Some((50_000, 100_000)));
        assert_eq!(parse_max("max 100000\n"), None);
        // Whatever stands there, a quota or none comes of it.
        for text in
            ["", " ", "max", "-1 100000", "1", "1 2 3", "1e5 100000", "18446744073709551616 1"]
        {
            assert_eq!(parse_max(text), None, "{text:?}");
        }
        let most = u64::MAX;
        let full = format!("nr_throttled {most}\nthrottled_usec {most}\n");
        assert_eq!(parse_stat(&full), Throttled { periods: most, ns: most });
        assert_eq!(parse_stat("nr_throttled -1\nthrottled_usec x\n\0"), Throttled::default());
    }

    #[test]
    fn a_quota_leaves_whole_cpus() {
        let quota = |quota_us| CpuQuota { quota_us, period_us: 100_000, file: "/f".into() };
        assert_eq!([20_000, 150_000, 400_000].map(|q| quota(q).whole_cpus()), [1, 1, 4]);
        assert_eq!(quota(20_000).to_string(), "0.2 CPUs (/f)");
        assert_eq!([0, u64::MAX].map(|q| quota(q).whole_cpus()), [1, u32::MAX]);
        assert_eq!(quota(0).to_string(), "0 CPUs (/f)");
    }
}
