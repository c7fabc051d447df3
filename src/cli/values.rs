//! What flags take: each is read where it is declared, so that a command gets values and not texts.

use anyhow::{Context as _, bail};

use crate::plan::guard::Cap;
use crate::units::{parse_count, parse_duration_ns, parse_rate, parse_share, parse_size};

/// A value of whatever `parse` reads, which must be above zero.
fn above_zero(n: u64) -> anyhow::Result<u64> {
    if n > 0 { Ok(n) } else { bail!("must be above zero") }
}

fn whole(text: &str, what: &str) -> anyhow::Result<u32> {
    let most = crate::units::format_count(u32::MAX.into());
    u32::try_from(parse_count(text)?)
        .with_context(|| format!("`{text}` is not from 0 to {most} {what}"))
}

pub(super) fn count(text: &str) -> anyhow::Result<u64> {
    Ok(parse_count(text)?)
}

pub(super) fn count_above_zero(text: &str) -> anyhow::Result<u64> {
    match parse_count(text)? {
        0 => bail!("must be at least 1"),
        count => Ok(count),
    }
}

pub(super) fn rate(text: &str) -> anyhow::Result<f64> {
    Ok(parse_rate(text.trim())?)
}

pub(super) fn time(text: &str) -> anyhow::Result<u64> {
    Ok(parse_duration_ns(text)?)
}

pub(super) fn time_above_zero(text: &str) -> anyhow::Result<u64> {
    above_zero(parse_duration_ns(text)?)
}

pub(super) fn size_above_zero(text: &str) -> anyhow::Result<u64> {
    above_zero(parse_size(text)?)
}

pub(super) fn lanes(text: &str) -> anyhow::Result<u32> {
    match whole(text, "lanes")? {
        0 => bail!("must be at least 1"),
        lanes => Ok(lanes),
    }
}

pub(super) fn cpus(text: &str) -> anyhow::Result<u32> {
    match whole(text, "CPUs")? {
        0 => bail!("a host has at least 1 CPU"),
        cpus => Ok(cpus),
    }
}

pub(super) fn spare(text: &str) -> anyhow::Result<u32> {
    whole(text, "hosts")
}

/// A share of nothing to all.
pub(super) fn share(text: &str) -> anyhow::Result<f64> {
    match parse_share(text)? {
        share if share <= 1.0 => Ok(share),
        _ => bail!("`{text}` is not a share from 0 to 100%, such as 5%"),
    }
}

/// A share above zero.
pub(super) fn part(text: &str) -> anyhow::Result<f64> {
    match share(text)? {
        share if share > 0.0 => Ok(share),
        _ => bail!("`{text}` is not above 0% and at most 100%"),
    }
}

/// A share above zero and below all: an objective of 100 % leaves no budget.
pub(super) fn below_all(text: &str) -> anyhow::Result<f64> {
    match part(text)? {
        share if share < 1.0 => Ok(share),
        _ => bail!("`{text}` leaves no error budget: write a share below 100%, such as 99.9%"),
    }
}

pub(super) fn months(text: &str) -> anyhow::Result<f64> {
    match text.trim().parse() {
        Ok(months) if (0.0..=600.0).contains(&months) => Ok(months),
        _ => bail!("`{text}` is not a number of months from 0 to 600, such as 6 or 1.5"),
    }
}

/// Growth per year: `30%`, `0.3` or `2%/month`.
pub(super) fn growth(text: &str) -> anyhow::Result<f64> {
    let (number, is_monthly) = match text.trim() {
        t if t.ends_with("/month") => (t.trim_end_matches("/month"), true),
        t => (t.trim_end_matches("/year"), false),
    };
    let (number, by) = match number.trim().strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (number, 1.0),
    };
    let value = number.trim().parse::<f64>().map(|v| v / by).unwrap_or(f64::NAN);
    let yearly = if is_monthly { (1.0 + value).powi(12) - 1.0 } else { value };
    if value > -1.0 && yearly <= 100.0 {
        return Ok(yearly);
    }
    bail!(
        "`{text}` is not a growth: write 30%, 0.3 or 2%/month, above -100% and at most 10000% per year"
    )
}

/// An address that may be loaded, with its caps.
pub(super) fn allowed(text: &str) -> anyhow::Result<String> {
    match Cap::parse(text) {
        Ok(_) => Ok(text.into()),
        Err(why) => bail!("`{text}` is {why:#}"),
    }
}
