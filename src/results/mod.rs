//! What a trial left behind: the record, the run directory and the statistics of trials.

pub mod format;
pub mod merge;
pub mod search;
pub mod stats;
pub mod store;
