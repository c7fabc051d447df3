//! What a trial left behind: the record and the run directory.

pub mod merge;
pub mod search;
pub mod store;
