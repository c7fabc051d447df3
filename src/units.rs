//! Durations, counts, rates and sizes: parsed and printed in one place.
//!
//! | kind | written as | read as |
//! |---|---|---|
//! | duration | `500us 20ms 2s 1m 1h`, fractions allowed | nanoseconds, `u64` |
//! | count | `2000 10k 1M`, decimal steps | `u64` |
//! | rate | `500 2.5k 0.1`, decimal steps | requests per second, `f64` |
//! | size | `4096 64KiB 1MiB 10kB` | bytes, `u64` |

use std::fmt;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// A quantity that could not be read: what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {kind}: {}", allowed.unwrap_or("it is too large"))]
pub(crate) struct UnitError {
    found: String,
    kind: &'static str,
    /// `None` of a number of this kind that is only more than can be counted.
    allowed: Option<&'static str>,
}

impl UnitError {
    pub(crate) fn is_too_large(&self) -> bool {
        self.allowed.is_none()
    }

    /// The same of a text that is shown in another form.
    pub(crate) fn of(self, found: String) -> Self {
        UnitError { found, ..self }
    }
}

/// A kind of quantity: how it is written, and its units with what each stands for.
struct Quantity {
    kind: &'static str,
    help: &'static str,
    units: &'static [(&'static str, f64)],
}

static DURATION: Quantity = Quantity {
    kind: "duration",
    help: "write a number and a unit, such as 500us, 20ms, 2s, 1m or 1h",
    units: &[
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("min", 60e9),
        ("h", 3600e9),
    ],
};
const DECIMAL: &[(&str, f64)] =
    &[("", 1.0), ("k", 1e3), ("K", 1e3), ("M", 1e6), ("m", 1e6), ("G", 1e9), ("g", 1e9)];
static COUNT: Quantity = Quantity {
    kind: "count",
    help: "write a whole number, with k or M for thousands or millions, such as 2000 or 10k",
    units: DECIMAL,
};
static RATE: Quantity = Quantity {
    kind: "rate",
    help: "write requests per second above zero, such as 500, 2.5k or 0.1",
    units: DECIMAL,
};
static SHARE: Quantity = Quantity {
    kind: "share",
    help: "use a share such as 5% or 0.05",
    units: &[("", 1.0), ("%", 100.0)],
};
static SIZE: Quantity = Quantity {
    kind: "size",
    help: "write bytes, or a number with kB, MB, KiB, MiB or GiB in this case, such as 64KiB",
    units: &[
        ("", 1.0),
        ("B", 1.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("KiB", 1024.0),
        ("k", 1024.0),
        ("K", 1024.0),
        ("MiB", 1_048_576.0),
        ("M", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("G", 1_073_741_824.0),
    ],
};

impl Quantity {
    fn malformed(&self, text: &str) -> UnitError {
        UnitError { found: text.into(), kind: self.kind, allowed: Some(self.help) }
    }

    fn too_large(&self, text: &str) -> UnitError {
        UnitError { allowed: None, ..self.malformed(text) }
    }

    /// The digits and what the unit behind them stands for.
    fn split(&self, text: &str) -> Result<(String, f64), UnitError> {
        let trimmed = text.trim();
        let digit = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
        let unit = trimmed.trim_start_matches(digit);
        let number = trimmed[..trimmed.len() - unit.len()].replace('_', "");
        let known = self.units.iter().find(|(name, _)| *name == unit.trim_start());
        known.map(|(_, factor)| (number, *factor)).ok_or_else(|| self.malformed(text))
    }

    fn whole(&self, text: &str) -> Result<u64, UnitError> {
        let (digits, factor) = self.split(text)?;
        // Whole numbers avoid the 53-bit mantissa, so that a large count survives exactly.
        if let Ok(whole) = digits.parse::<u64>() {
            return whole.checked_mul(factor as u64).ok_or_else(|| self.too_large(text));
        }
        let value = digits.parse::<f64>().map_err(|_| self.malformed(text))? * factor;
        if value < 9.2e18 { Ok(value.round() as u64) } else { Err(self.too_large(text)) }
    }
}

/// Reads a duration in nanoseconds. A bare number is refused, since peers disagree on its unit.
pub(crate) fn parse_duration_ns(text: &str) -> Result<u64, UnitError> {
    if text.trim() == "0" { Ok(0) } else { DURATION.whole(text) }
}

/// Reads a count with decimal steps: `10k` is 10,000.
pub(crate) fn parse_count(text: &str) -> Result<u64, UnitError> {
    match COUNT.split(text)? {
        (digits, factor) if factor == 1.0 && digits.contains('.') => Err(COUNT.malformed(text)),
        _ => COUNT.whole(text),
    }
}

/// Reads a total rate in requests per second; zero is refused.
pub(crate) fn parse_rate(text: &str) -> Result<f64, UnitError> {
    let each = text.trim_end().strip_suffix("/s").unwrap_or(text);
    let (digits, factor) = RATE.split(each).map_err(|error| error.of(text.into()))?;
    match digits.parse::<f64>().map(|number| number * factor) {
        Ok(f64::INFINITY) => Err(RATE.too_large(text)),
        Ok(rate) if rate > 0.0 => Ok(rate),
        _ => Err(RATE.malformed(text)),
    }
}

/// A share in per cent, to a tenth where it has one: `5 %`. What is neither nothing nor all is printed
/// as neither.
pub(crate) fn format_share(share: f64) -> String {
    let percent = 100.0 * share;
    let hides = |rounded: f64| (rounded == 0.0 || rounded == 100.0) && rounded != percent;
    let rounded = |digits: i32| (percent * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let digits = (1..8).find(|digits| !hides(rounded(*digits))).unwrap_or(8);
    format!("{} %", rounded(digits))
}

/// Reads a share such as `5%` or `0.05`.
pub(crate) fn parse_share(text: &str) -> Result<f64, UnitError> {
    let (digits, factor) = SHARE.split(text)?;
    match digits.parse::<f64>().map(|number| number / factor) {
        Ok(f64::INFINITY) => Err(SHARE.too_large(text)),
        share => share.map_err(|_| SHARE.malformed(text)),
    }
}

/// Reads a size in bytes; `KiB` is 1,024 and `kB` is 1,000.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    SIZE.whole(text)
}

/// Prints a number with three significant digits and no trailing zeros after the point.
fn significant(value: f64) -> String {
    let digits = 2 - usize::from(value >= 10.0) - usize::from(value >= 100.0);
    trimmed(&format!("{value:.digits$}")).to_string()
}

/// A decimal without zeros at its end that say nothing.
pub(crate) fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Prints a number with three significant digits in the first unit in which they stand before the point.
fn stepped(value: f64, step: f64, units: [&str; 4]) -> String {
    if value < 0.0 {
        return format!("-{}", stepped(-value, step, units));
    }
    let fits = |at: &usize| value < (step - 0.5) * step.powi(*at as i32);
    let at = (0..3).find(fits).unwrap_or(3);
    format!("{} {}", significant(value / step.powi(at as i32)), units[at])
}

/// Prints nanoseconds with three significant digits: `1.25 ms`.
pub(crate) fn format_ns(ns: f64) -> String {
    stepped(ns, 1e3, ["ns", "µs", "ms", "s"])
}

/// Prints bytes with three significant digits in binary steps: `64 KiB`.
pub(crate) fn format_bytes(bytes: f64) -> String {
    stepped(bytes, 1024.0, ["B", "KiB", "MiB", "GiB"])
}

/// Prints a number exactly, in the largest unit of which it is a multiple.
fn literal(n: u64, step: u64, units: [&str; 4]) -> String {
    let size = |at: usize| step.pow(at as u32);
    let at = (1..4).rev().find(|at| n > 0 && n.is_multiple_of(size(*at))).unwrap_or(0);
    format!("{}{}", n / size(at), units[at])
}

/// Prints a duration the way it is written in a config, exactly: `500ms`, `1500us`.
pub(crate) fn duration_literal(ns: u64) -> String {
    literal(ns, 1000, ["ns", "us", "ms", "s"])
}

/// Prints a size the way it is written in a config, exactly: `64KiB`.
pub(crate) fn size_literal(bytes: u64) -> String {
    literal(bytes, 1024, ["B", "KiB", "MiB", "GiB"])
}

/// Prints a count with thousands separators: `16,370`.
pub(crate) fn format_count(count: u64) -> String {
    let mut out = count.to_string();
    for at in (1..out.len()).rev().skip(2).step_by(3) {
        out.insert(at, ',');
    }
    out
}

/// A count of something: `1 lane`, `16,370 lanes`.
pub(crate) fn plural(count: u64, word: &str) -> String {
    format!("{} {word}{}", format_count(count), if count == 1 { "" } else { "s" })
}

/// `a, b or c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        _ => names.concat(),
    }
}

/// Prints a rate: whole numbers with separators from 100 up, three significant digits below.
pub(crate) fn format_rate(per_s: f64) -> String {
    match per_s {
        r if r >= 99.95 => format_count(r.round() as u64),
        // One in eleven days is not none.
        r if r > 0.0 && r < 0.995 => {
            let digits = (2.0 - r.log10().floor()).clamp(2.0, 15.0) as usize;
            trimmed(&format!("{r:.digits$}")).to_string()
        }
        r => significant(r),
    }
}

/// A wrapper that prints a ratio with two decimals, or three below a tenth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio(pub f64);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0.1 { write!(f, "{:.3}×", self.0) } else { write!(f, "{:.2}×", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_hides_nothing_that_is_there() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.05, "5 %"),
            (0.3141, "31.4 %"),
            (0.0004, "0.04 %"),
            (1e-7, "0.00001 %"),
            (0.9997, "99.97 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(format_share(share), text);
        }
        for (rate, text) in [
            (0.0, "0"),
            (0.001, "0.001"),
            (1e-6, "0.000001"),
            (0.5, "0.5"),
            (0.123_4, "0.123"),
            (2.5, "2.5"),
        ] {
            assert_eq!(format_rate(rate), text);
        }
    }

    #[test]
    fn durations_read_with_units_only() {
        for (text, ns) in [
            ("500us", 500_000),
            ("20ms", 20_000_000),
            ("2s", 2_000_000_000),
            ("1m", 60_000_000_000),
            ("1.5ms", 1_500_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration_ns(text), Ok(ns), "{text}");
        }
        for text in ["5", "ms", "5 parsecs", "-1s", "1e3s", "", "99999999999h"] {
            assert!(parse_duration_ns(text).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn what_is_too_large_is_not_called_malformed() {
        let many = "9".repeat(400);
        let errors = [
            parse_count("18446744073709551616").unwrap_err(),
            parse_count("18446744073709552k").unwrap_err(),
            parse_count(&many).unwrap_err(),
            parse_duration_ns("99999999999h").unwrap_err(),
            parse_duration_ns("18446744074s").unwrap_err(),
            parse_size("17179869184GiB").unwrap_err(),
            parse_rate(&many).unwrap_err(),
            parse_share(&format!("{many}%")).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_too_large(), "{error}");
            assert!(error.to_string().ends_with(": it is too large"), "{error}");
        }
        for error in ["1e400", "NaN", "inf", "-1", "", "_", "1.2.3", "0x10"] {
            assert!(!parse_count(error).unwrap_err().is_too_large(), "{error}");
        }
        assert_eq!(parse_count("18446744073709551615"), Ok(u64::MAX), "to the last digit");
    }

    #[test]
    fn counts_and_rates_step_by_thousands_sizes_by_1024() {
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_count("2.5k"), Ok(2_500));
        assert_eq!(parse_count("1M"), Ok(1_000_000));
        assert!(parse_count("2.5").is_err());
        assert_eq!(parse_rate("2.5k"), Ok(2_500.0));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("-1").is_err());
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("10kB"), Ok(10_000));
        assert!(parse_size("64KB/s").is_err());
    }

    #[test]
    fn printing_keeps_three_digits() {
        assert_eq!(format_ns(1_254_000.0), "1.25 ms");
        assert_eq!(format_ns(999_700.0), "1 ms");
        assert_eq!(format_bytes(65_536.0), "64 KiB");
        assert_eq!(format_count(16_370), "16,370");
        assert_eq!(duration_literal(1_500_000), "1500us");
        assert_eq!(size_literal(65_536), "64KiB");
    }
}
