//! What trials left behind: the run directory, and what a search makes of its rows.

pub mod search;
pub mod store;
