//! The latencies of a run as files that other HdrHistogram tools read.
//!
//! `hdr/<cell>.hlog` is an interval log with one line per trial and histogram, tagged with the
//! histogram's name; its times are seconds since `BaseTime`, the first window of the run.
//! `hdr/<cell>.<histogram>.hgrm` is the percentile distribution over all trials of the cell, in
//! the form of HdrHistogram's `outputPercentileDistribution`, which its plotter takes. Maxima in
//! the log and values in the distribution are milliseconds; histograms hold nanoseconds. Times of a
//! class of requests are tagged `class-NAME`.
//!
//! As in the tables, trials that may not be ranked stand in these files only when their cell has
//! no others; comments in the log say which those are and which were left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use rayon::prelude::*;

use super::summary::{by_cell, is_quiet, is_valid, shown_of};
use crate::format::{Distribution, Status, TrialRecord, histogram};
use crate::stats::hdr;

pub const DIR: &str = "hdr";

/// The unit that readers of these files expect.
const NS_PER_MS: f64 = 1e6;

/// Lines that each halving of the distance to 100 % gets in a `.hgrm`, as in HdrHistogram's tools.
const TICKS_PER_HALF: u32 = 5;

/// Writes the files of every cell below `dir`, over those of an earlier report.
///
/// # Errors
/// A file that could not be written, or a histogram that could not be read; the files of other cells
/// may be there.
pub fn write(dir: &Path, records: &[TrialRecord]) -> anyhow::Result<()> {
    // Where memory is split, latency is not to be read.
    let cells = by_cell(records.iter().filter(|r| !r.cell.is_memory()));
    let base = records.iter().filter_map(|r| r.started_unix_ns).min().unwrap_or(0);
    let dir = dir.join(DIR);
    fs::create_dir_all(&dir).with_context(|| format!("{}: cannot write", dir.display()))?;
    // Each cell by itself: decoding and encoding histograms is most of what a report costs.
    let cells: Vec<(&str, Vec<&TrialRecord>)> = cells.into_iter().collect();
    cells.into_par_iter().try_for_each(|(cell, trials)| write_cell(&dir, cell, trials, base))
}

fn write_cell(
    dir: &Path,
    cell: &str,
    mut trials: Vec<&TrialRecord>,
    base_ns: u64,
) -> anyhow::Result<()> {
    // Readers expect intervals in the order of their times.
    trials.sort_by_key(|r| (r.started_unix_ns, r.trial));
    let name = file_name(cell);
    let (log, merged) = log(cell, &trials, base_ns)?;
    save(&dir.join(format!("{name}.hlog")), &log)?;
    for (tag, histogram) in merged.into_iter().filter_map(|(tag, sum)| Some((tag, sum?))) {
        let text = percentile_distribution(&histogram);
        save(&dir.join(format!("{name}.{}.hgrm", file_name(&tag))), text.as_bytes())?;
    }
    Ok(())
}

fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    // A pipe there would hold up the report, and a link lead out of it.
    let _ = fs::remove_file(path);
    fs::write(path, bytes).with_context(|| format!("{}: cannot write", path.display()))
}

/// A cell's id as a file name that leads to no other directory, whatever a foreign record holds.
fn file_name(cell: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    cell.chars().map(safe).take(200).collect()
}

type Merged = BTreeMap<String, Option<Histogram<u64>>>;

/// The interval log of one cell, and its histograms added up over the trials.
fn log(cell: &str, trials: &[&TrialRecord], base_ns: u64) -> anyhow::Result<(Vec<u8>, Merged)> {
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]");
    builder.add_comment(&format!("duel cell {}: nanoseconds", super::layout::clean(cell)));
    let (_, shown) = shown_of(trials);
    let is_shown = |record: &TrialRecord| shown.iter().any(|r| std::ptr::eq(*r, record));
    for record in trials.iter().filter(|r| !(is_valid(r) && is_quiet(r))) {
        builder.add_comment(&remark(record, is_shown(record)));
    }
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut writer = builder
        .with_base_time(SystemTime::UNIX_EPOCH + Duration::from_nanos(base_ns))
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut bytes, &mut serializer)
        .expect("writing to memory cannot fail");
    let mut merged = Merged::new();
    for record in trials.iter().filter(|r| is_shown(r)) {
        let begun = record.started_unix_ns.unwrap_or(base_ns).saturating_sub(base_ns);
        let (begun, lasted) =
            (Duration::from_nanos(begun), Duration::from_nanos(record.measured_ns));
        for (tag, distribution) in tagged(record) {
            let damaged = |why: &dyn std::fmt::Display| {
                anyhow::anyhow!("{cell} block {}: {tag}: {why}", record.block)
            };
            let histogram = histogram::decode(&distribution.hdr).map_err(|e| damaged(&e))?;
            writer
                .write_histogram(&histogram, begun, lasted, Tag::new(&tag))
                .map_err(|e| damaged(&e))?;
            hdr::add(merged.entry(tag.clone()).or_default(), histogram).map_err(|e| damaged(&e))?;
        }
    }
    Ok((bytes, merged))
}

/// The histograms of a trial by the names that they have in files: then those of its classes.
fn tagged(record: &TrialRecord) -> impl Iterator<Item = (String, &Distribution)> {
    let own = record.histograms().map(|(channel, times)| (channel.tag().to_string(), times));
    let of_classes = record.classes.iter();
    own.chain(
        of_classes.filter_map(|(name, c)| Some((format!("class-{name}"), c.times_ns.as_ref()?))),
    )
}

fn remark(record: &TrialRecord, shown: bool) -> String {
    let (what, why) = match record.status {
        Status::Ok => ("on a busy machine", "noisy"),
        other => ("not reliable", other.name()),
    };
    format!("{}: block {}, {why}", if shown { what } else { "left out" }, record.block)
}

/// A `.hgrm`: value in milliseconds, percentile, running count and 1 ÷ (1 − percentile).
fn percentile_distribution(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let ms = |ns: f64| ns / NS_PER_MS;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, q) = (ms(step.value_iterated_to() as f64), step.quantile_iterated_to());
        let _ = write!(text, "{value:12.6} {q:2.12} {total:10}");
        // The last line, at 100 %, has no fourth column in any HdrHistogram.
        if q < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - q));
        }
        text.push('\n');
    }
    let (mean, deviation) = (ms(histogram.mean()), ms(histogram.stdev()));
    let max = ms(histogram.max() as f64);
    let buckets = histogram.buckets();
    // A writer of text in memory has no errors.
    let _ = writeln!(text, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]");
    let _ = writeln!(text, "#[Max     = {max:12.6}, Total count    = {:12}]", histogram.len());
    let _ =
        writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {:12}]", sub_buckets(histogram));
    text
}

/// Slots of the first bucket: the smallest power of two above twice the precision.
fn sub_buckets(histogram: &Histogram<u64>) -> u64 {
    (2 * 10u64.pow(u32::from(histogram.sigfig()))).next_power_of_two()
}
