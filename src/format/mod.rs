//! The vocabulary of results: what a trial's record holds and how its histograms are written.
//! Knows of nothing but the plan's cell.

pub mod histogram;
mod record;

pub use record::*;
