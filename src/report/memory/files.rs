//! `memory.json`: the splits and the fits for programs.

use serde_json::{Map, json};

use super::{CellSplit, Ladder, PARTS, Part, TOTAL, cells, ladders};
use crate::format::TrialRecord;
use crate::stats::{CONFIDENCE, LinearFit};

/// What is shown of the trials of the kind `memory`; `None` where there are no trials of the kind.
pub fn json(records: &[TrialRecord]) -> Option<String> {
    let cells = cells(records);
    if cells.is_empty() {
        return None;
    }
    let cell = |c: &CellSplit<'_>| {
        let of = |p: &Part| (format!("{}_bytes", p.name), json!(c.bytes(p)));
        let bytes: Map<_, _> = PARTS.iter().chain([&TOTAL]).map(of).collect();
        json!({ "cell": c.cell, "trials": c.splits.len(), "errors": c.errors, "median": bytes })
    };
    let fit = |(name, _, f): &(&str, &str, LinearFit)| {
        let fit = json!({
            "slope_bytes_per_lane": f.slope, "slope_interval": f.slope_interval,
            "intercept_bytes": f.intercept, "intercept_interval": f.intercept_interval,
            "points": f.n, "r_squared": f.r_squared,
        });
        (name.to_string(), fit)
    };
    let ladder = |l: &Ladder| {
        let fits: Map<_, _> = l.fits.iter().map(fit).collect();
        json!({
            "name": l.name, "lanes": l.lanes, "confidence": CONFIDENCE,
            "most_unattributed_share": l.most_unattributed, "parts": fits,
        })
    };
    let text = serde_json::to_string_pretty(&json!({
        "format_version": 1,
        "cells": cells.iter().map(cell).collect::<Vec<_>>(),
        "ladders": ladders(&cells).iter().map(ladder).collect::<Vec<_>>(),
    }));
    // Plain numbers and texts always serialise.
    text.ok().map(|t| t + "\n")
}
