//! What may be done to an address that is not this machine's: only what names it, and no more than
//! was said where it is named.
//!
//! An entry of `[target] allow` or `--allow` is `host:port`, and after it, where the caps are to be
//! others, `rate=…` and `connections=…`: `"10.0.0.7:80 rate=50k connections=5k"`.

use anyhow::{Context, anyhow, bail};

use crate::units::{format_count, format_rate, parse_count, parse_rate};

/// Requests per second that an address which is not loopback gets at most, unless raised: what one
/// ordinary server stands, so that a typing error in a rate is no attack.
pub(crate) const DEFAULT_RATE_PER_S: f64 = 10_000.0;

/// Connections likewise: below the backlog and descriptor limits of servers as they are shipped.
pub(crate) const DEFAULT_CONNECTIONS: u64 = 1_000;

/// Time for which a closed loop may run ahead of the cap: its first requests start all at once.
const AHEAD_S: f64 = 0.1;

#[derive(Debug, Clone, PartialEq)]
pub struct Cap {
    pub authority: String,
    pub rate_per_s: f64,
    pub connections: u64,
}

impl Cap {
    pub(crate) fn parse(entry: &str) -> anyhow::Result<Cap> {
        let mut words = entry.split([' ', ',']).filter(|word| !word.is_empty());
        let text = words.next().unwrap_or_default();
        let authority = text.parse::<http::uri::Authority>().ok();
        let named = authority.filter(|a| !a.host().is_empty() && !text.contains('@'));
        if !matches!(named.and_then(|a| a.port_u16()), Some(1..)) {
            bail!("not an address: write host:port");
        }
        let mut cap = Cap {
            authority: text.into(),
            rate_per_s: DEFAULT_RATE_PER_S,
            connections: DEFAULT_CONNECTIONS,
        };
        for word in words {
            let wrong = || format!("no entry: {word}");
            match word.split_once('=') {
                Some(("rate", rate)) => cap.rate_per_s = parse_rate(rate).with_context(wrong)?,
                Some(("connections", n)) => cap.connections = parse_count(n).with_context(wrong)?,
                _ => bail!("no entry: after host:port only rate=… and connections=… may stand"),
            }
        }
        Ok(cap)
    }

    pub(crate) fn check(&self, connections: u64, offered_per_s: Option<f64>) -> anyhow::Result<()> {
        if connections > self.connections {
            return Err(self.above(
                &format!("{} connections", format_count(connections)),
                &format_count(self.connections),
                &format!("connections={connections}"),
            ));
        }
        match offered_per_s {
            Some(rate) if rate > self.rate_per_s => Err(self.above(
                &format!("{} requests/s", format_rate(rate)),
                &format_rate(self.rate_per_s),
                &format!("rate={rate}"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses to go on where a closed loop, which has no rate of its own, started more than allowed.
    pub(crate) fn check_started(&self, started: u64, elapsed_ns: u64) -> anyhow::Result<()> {
        let most = self.rate_per_s * (elapsed_ns as f64 / 1e9 + AHEAD_S) + self.connections as f64;
        if started as f64 <= most {
            return Ok(());
        }
        let seen = started as f64 / (elapsed_ns as f64 / 1e9);
        Err(self.above(
            &format!("stopped at {} requests/s", format_rate(seen)),
            &format_rate(self.rate_per_s),
            "rate=…",
        ))
    }

    /// What is asked for, what is allowed, and where to raise it.
    fn above(&self, asked: &str, allowed: &str, raise: &str) -> anyhow::Error {
        let authority = &self.authority;
        anyhow!(
            "{asked} to {authority}, which is not this machine's loopback; allowed are {allowed}: \
             raise it where the address is named, allow = [\"{authority} {raise}\"] or \
             --allow '{authority} {raise}'"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_an_address_and_caps() {
        let plain = Cap::parse("example.org:80").unwrap();
        assert_eq!((plain.rate_per_s, plain.connections), (10_000.0, 1_000));
        let raised = Cap::parse("[fe80::1]:8080 rate=50k,connections=2k").unwrap();
        assert_eq!((raised.rate_per_s, raised.connections), (50_000.0, 2_000));
        assert_eq!(raised.authority, "[fe80::1]:8080");
        for wrong in ["", "host", "a@b:80", "h:80 rate", "h:80 rate=x", "h:80 speed=1", "h:0"] {
            assert!(Cap::parse(wrong).is_err(), "{wrong:?} is taken");
        }
    }

    #[test]
    fn what_is_beyond_a_cap_is_refused_with_the_way_out() {
        let cap = Cap::parse("10.0.0.1:80").unwrap();
        assert!(cap.check(1_000, Some(10_000.0)).is_ok());
        assert!(cap.check(1_000, None).is_ok());
        let told = cap.check(1_001, None).unwrap_err().to_string();
        assert!(told.contains("1,001 connections") && told.contains("connections=1001"), "{told}");
        let told = cap.check(1, Some(20_000.0)).unwrap_err().to_string();
        assert!(told.contains("--allow '10.0.0.1:80 rate=20000'"), "{told}");
    }

    #[test]
    fn a_closed_loop_is_held_to_the_rate_too() {
        let cap = Cap::parse("10.0.0.1:80 connections=10").unwrap();
        // All lanes at once, at the start.
        assert!(cap.check_started(10, 0).is_ok());
        assert!(cap.check_started(10_000, 1_000_000_000).is_ok());
        let told = cap.check_started(12_000, 1_000_000_000).unwrap_err().to_string();
        assert!(told.contains("stopped at 12,000 requests/s"), "{told}");
    }
}
