//! The clocks of shards on different machines: how far one is from its reference.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use super::mailbox::Mailbox;
use crate::driver::peers::Stop;
use crate::sys::{MonotonicNs, now_ns};
use crate::units::{SECOND_NS, format_ns};

/// The resolution of file stamps: a tick of the slowest common kernel (CONFIG_HZ = 100).
const FILE_STAMP_NS: u64 = 10_000_000;
/// Exchanges with shard 0; the quickest decides.
const ROUNDS: u32 = 3;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// This clock less the reference's.
    pub(super) offset_ns: Option<i64>,
    /// Half width of the interval in which that lies.
    pub(super) error_ns: Option<u64>,
    /// What it refers to; see `ShardStart::clock_reference`.
    pub(super) reference: Option<String>,
}

impl Clock {
    pub(super) fn of_shard_0(offset_ns: i64, error_ns: u64) -> Clock {
        Clock {
            offset_ns: Some(offset_ns),
            error_ns: Some(error_ns),
            reference: Some("shard 0".into()),
        }
    }

    /// Against the clock that stamps files of this directory: the file server's on most shared
    /// file systems, this machine's own on a local one.
    pub(super) fn by_file_stamp(dir: &Path) -> io::Result<Clock> {
        let probe = dir.join(format!(".duel-clock-{}", std::process::id()));
        let before = unix_now_ns();
        let stamped = std::fs::write(&probe, "x")
            .and_then(|()| std::fs::metadata(&probe))
            .and_then(|m| m.modified());
        let after = unix_now_ns();
        let _ = std::fs::remove_file(&probe);
        let stamp = stamped?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
        let middle = (before / 2 + after / 2) as i64;
        Ok(Clock {
            offset_ns: Some(middle - stamp),
            error_ns: Some((after - before) / 2 + FILE_STAMP_NS),
            reference: Some("file system".into()),
        })
    }

    /// `60 s ahead of`, if the clock is surely further off than `most_ns`.
    pub(super) fn far_off(&self, most_ns: u64) -> Option<String> {
        let offset = self.offset_ns?;
        let least = offset.unsigned_abs().saturating_sub(self.error_ns?);
        let side = if offset > 0 { "ahead of" } else { "behind" };
        (least > most_ns).then(|| format!("{} {side}", format_ns(offset.unsigned_abs() as f64)))
    }
}

#[derive(Serialize, Deserialize)]
struct Pong {
    received_unix_ns: u64,
    sent_unix_ns: u64,
}

/// This clock against shard 0's: NTP's four stamps by way of files (RFC 5905, section 8).
pub(super) fn ping(mail: &Mailbox, shard: u32, stop: Stop) -> anyhow::Result<Clock> {
    let mut best = (u64::MAX, 0);
    for round in 0..ROUNDS {
        let sent = unix_now_ns();
        mail.post(&format!("clock/ping.{shard}.{round}"), &sent)?;
        let pong: Pong = mail.hear(&format!("clock/pong.{shard}.{round}"), stop)?;
        let back = unix_now_ns();
        let held = pong.sent_unix_ns.saturating_sub(pong.received_unix_ns);
        let round_trip = back.saturating_sub(sent).saturating_sub(held);
        // This clock less shard 0's, halfway between the two bounds.
        let ahead = back as i64 - pong.sent_unix_ns as i64;
        let behind = pong.received_unix_ns as i64 - sent as i64;
        if round_trip < best.0 {
            best = (round_trip, (ahead - behind) / 2);
        }
    }
    let (round_trip, offset) = best;
    Ok(Clock::of_shard_0(offset, round_trip / 2))
}

/// Shard 0's side of [`ping`]; a shard that does not come is missed in the next step.
pub(super) fn answer_pings(mail: &Mailbox, of: Range<u32>, stop: Stop) -> anyhow::Result<()> {
    let mut due: Vec<(u32, u32)> = of.map(|k| (k, 0)).collect();
    mail.until(mail.wait_ns, &|| "the other shards".into(), stop, || {
        for (k, round) in &mut due {
            if mail.read::<u64>(&format!("clock/ping.{k}.{round}"))?.is_some() {
                let received_unix_ns = unix_now_ns();
                let stamps = Pong { received_unix_ns, sent_unix_ns: unix_now_ns() };
                mail.post(&format!("clock/pong.{k}.{round}"), &stamps)?;
                *round += 1;
            }
        }
        due.retain(|(_, round)| *round < ROUNDS);
        Ok(due.is_empty().then_some(()))
    })?;
    Ok(())
}

/// The wall clock, nanoseconds since the Unix epoch; zero before it.
pub(crate) fn unix_now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// An instant of the wall clock on CLOCK_MONOTONIC, as both read now; zero if it lies before boot.
pub(super) fn monotonic(unix_ns: u64) -> MonotonicNs {
    let (mono, unix) = (now_ns(), unix_now_ns());
    (mono + unix_ns).saturating_sub(unix)
}

/// An absolute time: RFC 3339, or seconds since the Unix epoch with a fraction.
pub(crate) fn parse_instant(text: &str) -> anyhow::Result<u64> {
    let error = || {
        anyhow!(
            "--start-at: `{text}` is not a time: write 2026-01-02T03:04:05Z (RFC 3339) or seconds \
             since 1970 such as 1767323045.5"
        )
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if digits(whole) && digits(fraction) {
        let seconds: u64 = whole.parse().map_err(|_| error())?;
        // Nine digits are nanoseconds; a missing one is a zero.
        let nanos: u64 = format!("{fraction:0<9.9}").parse().map_err(|_| error())?;
        return seconds.checked_mul(SECOND_NS).and_then(|s| s.checked_add(nanos)).ok_or_else(error);
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| error())?;
    u64::try_from(at.as_nanosecond()).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_rfc_3339_or_unix_seconds() {
        let second = 1_767_323_045 * SECOND_NS;
        for (text, at) in [
            ("2026-01-02T03:04:05Z", second),
            ("2026-01-02T04:04:05.5+01:00", second + SECOND_NS / 2),
            ("1767323045", second),
            ("1767323045.25", second + SECOND_NS / 4),
        ] {
            assert_eq!(parse_instant(text).unwrap(), at, "{text}");
        }
        for bad in ["", "soon", "-5", "1.2.3", "1767323045.", "2026-01-02", "99999999999999"] {
            assert!(parse_instant(bad).unwrap_err().to_string().contains("RFC 3339"), "{bad}");
        }
    }
}
